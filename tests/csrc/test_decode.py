"""The formulas of decoding in C++: numbers at their decimals and inside their bounds, and clean under sanitizers."""

from tests.csrc.programs import Compiled, output_of


def decoded(written: bytes) -> int:
    count, *words = written.decode().split()
    assert words == ["cells", "decoded"]
    return int(count)


def test_every_kind_of_column_gives_numbers_as_its_schema_has_them(compiled: Compiled) -> None:
    assert decoded(output_of(compiled("decode"))) > 100_000


def test_decoding_is_clean_under_address_and_undefined_behaviour_sanitizers(sanitized: Compiled) -> None:
    assert decoded(output_of(sanitized("decode"))) > 100_000
