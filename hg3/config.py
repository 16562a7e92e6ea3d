"""Presets: everything about the model and its training, plain TOML, validated; nothing about a table."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hg3.errors import ConfigError

FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleConfig(_Part):
    """The noise schedule; `beta_first` and `beta_last` are those of the linear one.

    `zero_terminal_snr` rescales it to end in pure noise; `allow_terminal_signal` accepts one that never reaches it.
    """

    kind: Literal["cosine", "linear", "sigmoid"] = "cosine"
    steps: int = Field(default=500, ge=2, le=2**20)
    beta_first: float = Field(default=1e-4, gt=0, lt=1)
    beta_last: float = Field(default=0.02, gt=0, lt=1)
    zero_terminal_snr: bool = False
    allow_terminal_signal: bool = False


class NetworkConfig(_Part):
    """The U-Net: channels at every level, levels that halve the length, attention heads at the bottom.

    `kind` health-gym-v3 is the published one: no attention, and records padded to `pad_to` times, noised like data.
    """

    kind: Literal["hg3", "health-gym-v3"] = "hg3"
    width: int = Field(default=96, ge=8, le=8192)
    levels: int = Field(default=3, ge=1, le=8)
    heads: int = Field(default=4, ge=1)
    pad_to: int = Field(default=100, ge=1, le=100_000)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        groups = self.heads if self.kind == "hg3" else 8
        if self.width % groups:
            what = "heads" if self.kind == "hg3" else "its normalisation groups,"
            raise ValueError(f"width {self.width} is not a multiple of {what} {groups}")
        return self


class EncodingConfig(_Part):
    """How transformed reals become channels.

    scaling : standard, mean 0 and sd 1; range, the training range on [-1, 1] (Health Gym v3); normal, their normal
        scores: any shape becomes the normal one, and samples stay inside what ten patients have.
    """

    scaling: Literal["standard", "range", "normal"] = "standard"


class HeadsConfig(_Part):
    """What the network predicts for reals and for categories."""

    real: Literal["eps", "v", "x_0"] = "v"
    category: Literal["eps", "v", "x_0", "logits"] = "logits"


class LossConfig(_Part):
    """`column_cap`: how much a rare column's cells may weigh.

    `kind` health-gym-v3 is the published loss: noise and reconstruction over all cells alike, without it.
    """

    kind: Literal["hg3", "health-gym-v3"] = "hg3"
    column_cap: float = Field(default=5.0, ge=1)


class TrainingConfig(_Part):
    """How weights are found; `precision` auto is bfloat16 or float16 where the device has it, else float32.

    decay : of the learning rate, to a hundredth at the end, or none. keep : the weights that generate, of the best
        validation or the last. condition : share of patients whose static columns are in part given to the network.
    """

    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    warmup: int = Field(default=100, ge=0)
    decay: Literal["cosine", "none"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    validate_every: int = Field(default=250, ge=1)
    patience: int = Field(default=8, ge=1)
    keep: Literal["best", "last"] = "best"
    condition: float = Field(default=0.2, ge=0, le=1)
    checkpoint_every: int = Field(default=500, ge=1)


class SamplingConfig(_Part):
    """The solver and its network calls, where `hg3 generate` names none.

    clamp : hold x_0_hat inside the sampling bounds at every step. range_filter : instead, sample a patient again if
    a real left them in the end, at most 100 times (Health Gym v3). decode : a code is the most probable one, or drawn
    from its probabilities, and so is whether a cell is missing.
    """

    solver: Literal["ancestral", "ancestral-beta", "ddim", "dpm++", "sde-dpm++"] = "dpm++"
    steps: int = Field(default=20, ge=2)
    clamp: bool = True
    range_filter: bool = False
    decode: Literal["argmax", "draw"] = "argmax"


class PrivacyConfig(_Part):
    """Training under differential privacy; a preset without it trains without (see docs/privacy.md).

    epsilon, delta : what a training may spend; where delta is absent, a tenth of one in the number of training
        patients. clip : the longest that the gradient of one patient's loss may be, in the Euclidean norm.
    complete : that every record is known to have a row at every time, so that none of the noise goes into lengths and
        gaps; another table is refused.
    """

    epsilon: float = Field(gt=0, allow_inf_nan=False)
    delta: float | None = Field(default=None, gt=0, lt=1)
    clip: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    complete: bool = False


class Preset(_Part):
    """A model and its training, without a word about a table."""

    format: int = FORMAT
    name: str = Field(min_length=1)
    schedule: ScheduleConfig = ScheduleConfig()
    encoding: EncodingConfig = EncodingConfig()
    network: NetworkConfig = NetworkConfig()
    heads: HeadsConfig = HeadsConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()
    privacy: PrivacyConfig | None = None

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Self:
        heads = (self.heads.real, self.heads.category)
        if self.network.kind != self.loss.kind:
            raise ValueError(
                f"network.kind is {self.network.kind} and loss.kind is {self.loss.kind}; a network learns from its own "
                "loss only: set both to hg3, or both to health-gym-v3"
            )
        if self.loss.kind == "health-gym-v3" and heads != ("eps", "eps"):
            raise ValueError("loss.kind health-gym-v3 is of the noise, so both heads must be eps")
        if self.network.kind == "health-gym-v3" and self.training.condition:
            raise ValueError("network.kind health-gym-v3 has no static columns to give: set training.condition to 0")
        if self.network.kind == "health-gym-v3" and not self.network.pad_to >> self.network.levels:
            raise ValueError(
                f"network.levels {self.network.levels} halves network.pad_to {self.network.pad_to} until nothing is "
                "left; lower the levels, or pad to more times"
            )
        if self.sampling.steps > self.schedule.steps:
            raise ValueError(f"sampling.steps {self.sampling.steps} is above schedule.steps {self.schedule.steps}")
        if self.privacy is not None:
            self._check_private()
        return self

    def _check_private(self) -> None:
        if self.network.kind != "hg3":
            raise ValueError(f"privacy is for network.kind hg3, and it is {self.network.kind}; leave one of them out")
        if self.training.precision not in ("auto", "float32"):
            raise ValueError(
                f"training.precision is {self.training.precision} and a private training computes in float32, in which "
                "the bound on a patient's gradient holds; set it to float32 or auto"
            )

    @property
    def keeps_last(self) -> bool:
        """Whether the last weights generate; a private training has no validation, which patients would decide."""
        return self.training.keep == "last" or self.privacy is not None

    def to_toml(self) -> str:
        """Return the preset as TOML, every value written out; what is absent is left out."""
        return tomli_w.dumps(self.model_dump(mode="python", exclude_none=True))


def shipped_presets() -> list[str]:
    """Return the names of the presets that come with hg3."""
    return sorted(
        p.name.removesuffix(".toml") for p in (files("hg3") / "presets").iterdir() if p.name.endswith(".toml")
    )


def load_preset(name_or_path: str | Path, changes: dict[str, str] | None = None) -> Preset:
    """Return a preset, shipped (by name) or from a TOML file, with `changes` such as {"network.width": "64"}.

    Raises
    ------
    ConfigError
        If there is none of that name, the file is not TOML, or a key or value is not allowed.
    """
    if str(name_or_path) in shipped_presets():
        text = (files("hg3") / "presets" / f"{name_or_path}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(
                f"{str(name_or_path)!r} is neither a shipped preset ({', '.join(shipped_presets())}) nor a readable "
                f"TOML file ({type(error).__name__}); name one of them or give the path of a preset"
            ) from None
    return parse_preset(text, str(name_or_path), changes or {})


def parse_preset(text: str, origin: str, changes: dict[str, str]) -> Preset:
    """Return the preset in `text` with `changes`; `origin` names it in errors."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"preset {origin} is not TOML: {error}") from None
    if content.get("format", FORMAT) != FORMAT:
        raise ConfigError(f"preset {origin} has format {content['format']} and this hg3 reads {FORMAT}; update hg3")
    for key, value in changes.items():
        _change(content, key, value)
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, f['loc']))}: {f['msg'].removeprefix('Value error, ')}" for f in error.errors()[:10]
        )
        raise ConfigError(
            f"preset {origin} is not usable: {faults}; known keys are {', '.join(known_keys())}"
        ) from None


def known_keys() -> list[str]:
    """Return every key that `--set` takes, as `part.key`."""
    return [
        f"{part}.{key}"
        for part, field in Preset.model_fields.items()
        for kind in (field.annotation, *get_args(field.annotation))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for key in kind.model_fields
    ]


def _change(content: dict[str, Any], key: str, value: str) -> None:
    if key not in known_keys():
        raise ConfigError(f"--set knows no key {key!r}; it knows {', '.join(known_keys())}")
    part, _, name = key.partition(".")
    if isinstance(content.setdefault(part, {}), dict):  # what else it is, validation tells
        content[part][name] = value
