"""Profiles: what a job asks the cluster for, by name, from TOML."""

import os
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hg3.errors import ConfigError

VARIABLE = "HG3_PROFILES"
SWITCHES = {"true": True, "false": False}  # values of an option of sbatch that takes none: it is given, or left out


class Profile(BaseModel):
    """What one task asks for; `profiles.toml` says what each key means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int = Field(default=0, ge=0)
    cpus: int = Field(default=2, ge=1)
    memory_gb: float = Field(default=8, gt=0)
    minutes: int = Field(default=120, ge=1)
    grace_seconds: int = Field(default=90, ge=1)
    parallel: int = Field(default=64, ge=1)
    container: str | None = None
    setup: tuple[str, ...] = ()
    sbatch: dict[str, str | int | bool] = {}


KEYS = ", ".join(Profile.model_fields)


def load_profile(name: str, changes: dict[str, str] | None = None, path: str | Path | None = None) -> Profile:
    """Return the profile `name` with `changes` such as {"minutes": "30", "sbatch.reservation": "night"}.

    Parameters
    ----------
    path : a TOML file of profiles; the one that HG3_PROFILES names, or the shipped one, if absent.

    Raises
    ------
    ConfigError
        If there is no such profile, or a key or a value is not allowed.
    """
    origin, text = _text(path or os.environ.get(VARIABLE))
    try:
        profiles = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the profiles in {origin} are not TOML: {error}") from None
    if not isinstance(profiles.get(name), dict):
        raise ConfigError(f"profile {name!r} is unknown; {origin} has {', '.join(profiles) or 'none'}")
    return _checked(name, _changed(profiles[name], changes or {}))


def change_profile(profile: Profile, changes: dict[str, str]) -> Profile:
    """Return a profile with `changes`, as `load_profile` takes them."""
    return _checked("of the submission", _changed(profile.model_dump(exclude_none=True), changes))


def _text(path: str | Path | None) -> tuple[str, str]:
    """Return where profiles are read from, in words, and what stands there."""
    if path is None:
        return "hg3's own file", (files("hg3.cluster") / "profiles.toml").read_text(encoding="utf-8")
    try:
        return str(path), Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the profiles {str(path)!r} cannot be read ({type(error).__name__}); give a TOML file, or unset {VARIABLE}"
        ) from None


def _changed(content: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    changed = {**content, "sbatch": dict(content.get("sbatch", {}))}
    for key, value in changes.items():
        name, dot, option = key.partition(".")
        if dot and name == "sbatch" and option:
            changed["sbatch"][option] = SWITCHES.get(value, value)
        elif key == "setup":
            changed["setup"] = value.splitlines()
        elif key in Profile.model_fields and key != "sbatch":
            changed[key] = value
        else:
            raise ConfigError(
                f"--slurm knows no key {key!r}; it knows {KEYS} (any option of sbatch as sbatch.OPTION=VALUE)"
            )
    return changed


def _checked(name: str, content: dict[str, Any]) -> Profile:
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise ConfigError(f"profile {name!r} is not usable: {faults}; known keys are {KEYS}") from None
    if profile.grace_seconds >= profile.minutes * 60:
        raise ConfigError(
            f"profile {name!r} has grace_seconds {profile.grace_seconds} and a limit of {profile.minutes} minutes; "
            "leave time to work: lower the one or raise the other"
        )
    return profile
