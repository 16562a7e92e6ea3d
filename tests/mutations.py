"""Ways to spoil a good file: what an enemy, a careless hand or a bad disk would do to it."""

import json
import random
from collections.abc import Callable
from pathlib import Path

CANARY = "ZZCANARY"
Mutation = Callable[[bytes, random.Random], bytes]


def _truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) or 1)]


def _flipped(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) or 1)
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def _zeroed(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) or 1)
    length = min(chance.randrange(1, 600), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


BYTES: dict[str, Mutation] = {
    "truncated": _truncated,
    "one bit flipped": _flipped,
    "a stretch of zeros": _zeroed,
    "empty": lambda content, chance: b"",
    "twice": lambda content, chance: content + content,
    "something appended": lambda content, chance: content + CANARY.encode(),
    "something else": lambda content, chance: CANARY.encode() * 50,
}


def _lines(change: Callable[[list[str], random.Random], list[str]]) -> Mutation:
    def mutate(content: bytes, chance: random.Random) -> bytes:
        return "\n".join(change(content.decode().split("\n"), chance)).encode()

    return mutate


def _without_a_line(lines: list[str], chance: random.Random) -> list[str]:
    place = chance.randrange(len(lines))
    return lines[:place] + lines[place + 1 :]


def _line_twice(lines: list[str], chance: random.Random) -> list[str]:
    place = chance.randrange(len(lines))
    return [*lines[:place], lines[place], *lines[place:]]


def _lines_shuffled(lines: list[str], chance: random.Random) -> list[str]:
    return chance.sample(lines, len(lines))


def _value_replaced(lines: list[str], chance: random.Random) -> list[str]:
    """Replace what stands behind one equals sign of a TOML text."""
    places = [i for i, line in enumerate(lines) if "=" in line]
    place = chance.choice(places)
    value = chance.choice(
        ['""', "-1", "0", "1e400", "nan", "true", "[]", "{}", f'"{CANARY}"', "[1, 'a']", "2**3", "1979-05-27"]
    )
    return [*lines[:place], f"{lines[place].split('=')[0]}= {value}", *lines[place + 1 :]]


def _key_renamed(lines: list[str], chance: random.Random) -> list[str]:
    place = chance.choice([i for i, line in enumerate(lines) if "=" in line])
    return [*lines[:place], "x" + lines[place], *lines[place + 1 :]]


TEXT: dict[str, Mutation] = {
    "a line less": _lines(_without_a_line),
    "a line twice": _lines(_line_twice),
    "lines shuffled": _lines(_lines_shuffled),
}
TOML: dict[str, Mutation] = {
    **TEXT,
    "a value replaced": _lines(_value_replaced),
    "a key renamed": _lines(_key_renamed),
}


def _cell(*values: str) -> Mutation:
    """Replace one cell of a CSV by one of `values`."""

    def change(lines: list[str], chance: random.Random) -> list[str]:
        place = chance.randrange(1, len(lines) - 1)
        cells = lines[place].split(",")
        cells[chance.randrange(len(cells))] = chance.choice(values)
        return [*lines[:place], ",".join(cells), *lines[place + 1 :]]

    return _lines(change)


def _column_less(lines: list[str], chance: random.Random) -> list[str]:
    gone = chance.randrange(lines[0].count(",") + 1)
    return [",".join(c for i, c in enumerate(line.split(",")) if i != gone) for line in lines]


def _column_named(name: str) -> Callable[[list[str], random.Random], list[str]]:
    def change(lines: list[str], chance: random.Random) -> list[str]:
        header = lines[0].split(",")
        header[chance.randrange(len(header))] = name
        return [",".join(header), *lines[1:]]

    return change


def _columns_swapped(lines: list[str], chance: random.Random) -> list[str]:
    one, other = chance.sample(range(lines[0].count(",") + 1), 2)
    swapped = []
    for line in lines[1:-1]:
        cells = line.split(",")
        cells[one], cells[other] = cells[other], cells[one]
        swapped.append(",".join(cells))
    return [lines[0], *swapped, ""]


CSV: dict[str, Mutation] = {
    **TEXT,
    "text in a cell": _cell(CANARY, "12 mg", "1,5", '"', "'", "\x00", "\u2028", "=1+1"),
    "a number that cannot be": _cell("inf", "-inf", "1e999", "-1", "99999999999999999999", "1e-320", "nan", "1e308"),
    "an empty cell": _cell("", " ", "NA", "null", "None"),
    "another code": _cell("7", "01", "1.0", "TRUE", "F ", "m"),
    "a column less": _lines(_column_less),
    "a column renamed": _lines(_column_named("renamed")),  # names of columns may be told, cells may not
    "a name twice": _lines(_column_named("VL")),
    "columns swapped": _lines(_columns_swapped),
}


def _json_key(change: Callable[[dict, str, random.Random], None]) -> Mutation:
    """Change one key of a JSON object, at any depth."""

    def mutate(content: bytes, chance: random.Random) -> bytes:
        whole = json.loads(content)
        inner = whole
        while (
            isinstance(inner, dict) and any(isinstance(v, dict) and v for v in inner.values()) and chance.random() < 0.6
        ):
            inner = chance.choice([v for v in inner.values() if isinstance(v, dict) and v])
        change(inner, chance.choice(sorted(inner)), chance)
        return json.dumps(whole).encode()

    return mutate


JSON: dict[str, Mutation] = {
    "a key less": _json_key(lambda content, key, chance: content.pop(key)),
    "a value of another type": _json_key(
        lambda content, key, chance: content.update({key: chance.choice([None, [], {}, "x", -1, 1e300, True, [[1]]])})
    ),
    "a key more": _json_key(lambda content, key, chance: content.update({"surplus": CANARY})),
}


def mutations_of(path: Path) -> dict[str, Mutation]:
    """Return the mutations that suit a file, by what its name ends in."""
    suited = {".toml": TOML, ".csv": CSV, ".json": JSON}.get(path.suffix, TEXT if path.suffix == ".md" else {})
    return {**BYTES, **suited}


def mutate(path: Path, name: str, seed: int) -> bool:
    """Spoil `path`; return whether its bytes changed."""
    before = path.read_bytes()
    after = mutations_of(path)[name](before, random.Random(seed))
    path.write_bytes(after)
    return after != before
