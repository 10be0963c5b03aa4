"""Registry of adaptation methods; importing it loads no torch, so that listing and planning answer at once."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from cytolora.config.run import LINEAR, ZERO_SHOT, AdapterSpec, HeadSpec, MethodKind, PromptSpec, method_kind
from cytolora.core.registry import Registry
from cytolora.errors import ConfigError
from cytolora.models.adapters.head_methods import FITTED, LINEAR_FACTS, HeadFacts
from cytolora.models.adapters.prompt_methods import PROMPTED, PromptFacts

if TYPE_CHECKING:
    from peft import PeftConfig

Opens = Literal["biases", "norms", "blocks", "everything"]
"""Weights of the encoder itself that a method trains."""

_WHERE = ("targets", "blocks", "last_blocks")
_PLAIN = AdapterSpec()
_LOW_RANK = ("rank", "alpha", "scaling", "dropout", *_WHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to adapt an encoder; the classifier on top is trained by all of them.

    An adapter sets one of ``peft_config``, ``opens`` and ``prompts``; any other method none.
    """

    name: str
    description: str
    peft_config: "Callable[[AdapterSpec, str], PeftConfig] | None" = None
    """Builds PEFT's configuration from the spec and the regular expression of adapted modules."""
    opens: Opens | None = None
    prompts: bool = False
    """Trains tokens that are put before every block and taken away after it."""
    uses: tuple[str, ...] = ()
    """Fields of AdapterSpec that the method reads; any other that is set is an error."""
    writes_weights: bool = False
    """The start moves a part of the frozen weights into the adapter."""
    reads_directions: bool = False
    """Every rank takes a direction or a share of a layer's inputs, of which there are only so many."""
    fit_adapter: AdapterSpec = _PLAIN
    """What ``fit``, which has no settings of adapters, takes."""
    plans_all_steps: bool = False
    """Spreads a schedule of its own over all steps, which no early end may cut."""
    head: HeadFacts | None = None
    """Of methods that are a head on frozen features."""
    prompt: PromptFacts | None = None
    """Of methods that train the input of the text encoder."""

    def __post_init__(self) -> None:
        num_ways = (self.peft_config is not None) + (self.opens is not None) + self.prompts
        if num_ways != int(self.kind == "adapter"):
            raise ConfigError(
                f"Method {self.name!r} is of the kind {self.kind} and sets {num_ways} of peft_config, opens and "
                "prompts; an adapter sets one of them, any other method none."
            )

    @property
    def kind(self) -> MethodKind:
        """What the method trains; specs, which know no registry, read it from the same table."""
        return method_kind(self.name)


def check_fits(method: Method, adapter: AdapterSpec) -> None:
    """Raises a ConfigError if the spec sets something that the method does not read."""
    _refuse_idle(method.name, "adapter", adapter, method.uses)


def check_head(method: Method, head: HeadSpec | None) -> None:
    """Raises a ConfigError if the hyper-parameters of a head hold something that the method does not read."""
    if head is not None:
        _refuse_idle(method.name, "head", head, method.head.settings if method.head else ())


def check_prompt(method: Method, prompt: PromptSpec | None) -> None:
    """Raises a ConfigError if the hyper-parameters of prompt learning hold something that the method does not read."""
    if prompt is not None:
        _refuse_idle(method.name, "prompt", prompt, tuple(method.prompt.values) if method.prompt else ())


def _refuse_idle(name: str, part: str, spec: AdapterSpec | HeadSpec | PromptSpec, reads: tuple[str, ...]) -> None:
    idle = [
        entry.name for entry in fields(spec) if entry.name not in reads and getattr(spec, entry.name) != entry.default
    ]
    if idle:
        known = ", ".join(reads) or "nothing of it"
        raise ConfigError(f"{name} does not use {', '.join(idle)} of the {part}; it reads {known}.")


def _low_rank(**options: Any) -> "Callable[[AdapterSpec, str], PeftConfig]":
    def build(adapter: AdapterSpec, modules: str) -> "PeftConfig":
        from peft import LoraConfig

        return LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]  (PEFT says int, and computes with floats)
            use_rslora=adapter.scaling == "alpha_over_sqrt_rank",
            lora_dropout=adapter.dropout,
            target_modules=modules,
            bias="none",
            **options,
        )

    return build


def _lora(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import EvaConfig

    if adapter.init == "eva":
        return _low_rank(init_lora_weights="eva", eva_config=EvaConfig(rho=1.0))(adapter, modules)
    return _low_rank(init_lora_weights=adapter.init or True)(adapter, modules)


def _vera(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import VeraConfig

    return VeraConfig(r=adapter.rank, vera_dropout=adapter.dropout, target_modules=modules)


def _ia3(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import IA3Config

    return IA3Config(target_modules=modules, feedforward_modules=[])


def _adalora(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import AdaLoraConfig

    from cytolora.models.adapters.adalora import start_rank

    return AdaLoraConfig(
        init_r=start_rank(adapter.rank),
        target_r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=adapter.dropout,
        target_modules=modules,
        total_step=1,  # PEFT asks for it; the training loop, which knows, replaces it
    )


def _oft(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import OFTConfig

    if adapter.rank < 2:
        raise ConfigError(f"oft rotates blocks of `rank` channels, at least 2, got {adapter.rank}.")
    return OFTConfig(oft_block_size=adapter.rank, module_dropout=adapter.dropout, target_modules=modules)


def _lokr(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import LoKrConfig

    return LoKrConfig(
        r=adapter.rank,
        alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
        rank_dropout=adapter.dropout,
        target_modules=modules,
    )


def _randlora(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import RandLoraConfig

    return RandLoraConfig(
        r=adapter.rank,
        randlora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
        randlora_dropout=adapter.dropout,
        save_projection=False,  # as many numbers as the weights, in the place of each layer
        target_modules=modules,
    )


def _miss(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import MissConfig

    return MissConfig(r=adapter.rank, miss_dropout=adapter.dropout, target_modules=modules)


METHODS: Registry[Method] = Registry("method")
for _method in (
    Method(name=LINEAR, description=LINEAR_FACTS.description, head=LINEAR_FACTS),
    *(Method(name=name, description=facts.description, head=facts) for name, facts in FITTED.items()),
    Method(
        name=ZERO_SHOT,
        description="Nearest class prompts in the space shared with text; nothing is trained (Radford et al. 2021).",
    ),
    *(Method(name=name, description=facts.description, prompt=facts) for name, facts in PROMPTED.items()),
    Method(
        name="lora",
        description="Low-rank adaptation of attention projections (Hu et al. 2021) and a linear classifier.",
        peft_config=_lora,
        uses=(*_LOW_RANK, "init", "towers", "reference_attention_bug"),
    ),
    Method(
        name="dora",
        description="LoRA with direction and length of every column trained apart (Liu et al. 2024).",
        peft_config=_low_rank(use_dora=True),
        uses=_LOW_RANK,
    ),
    Method(
        name="pissa",
        description="LoRA that starts from the weights' largest singular directions (Meng et al. 2024).",
        peft_config=_low_rank(init_lora_weights="pissa"),
        uses=_LOW_RANK,
        writes_weights=True,
        reads_directions=True,
    ),
    Method(
        name="vera",
        description="Two trained vectors around random low-rank matrices shared by all blocks (Kopiczko et al. 2024).",
        peft_config=_vera,
        uses=("rank", "dropout", *_WHERE),
    ),
    Method(
        name="ia3",
        description="One trained factor per output channel (Liu et al. 2022).",
        peft_config=_ia3,
        uses=_WHERE,
    ),
    Method(
        name="adalora",
        description="Low-rank adaptation that starts with half as many ranks again and gives up the least important "
        "(Zhang et al. 2023).",
        peft_config=_adalora,
        plans_all_steps=True,
        uses=("rank", "alpha", "dropout", *_WHERE),
    ),
    Method(
        name="oft",
        description="Rotation of the inputs in blocks of `rank` channels (Qiu et al. 2023).",
        peft_config=_oft,
        uses=("rank", "dropout", *_WHERE),
    ),
    Method(
        name="lokr",
        description="Kronecker product of small matrices (Yeh et al. 2024).",
        peft_config=_lokr,
        uses=("rank", "alpha", "dropout", *_WHERE),
    ),
    Method(
        name="randlora",
        description="Full-rank update: a trained mixture of random low-rank matrices, which all blocks share "
        "(Albert et al. 2025).",
        peft_config=_randlora,
        reads_directions=True,
        fit_adapter=AdapterSpec(rank=32, alpha=640),  # PEFT's own; the update is scaled by alpha / rank
        uses=("rank", "alpha", "dropout", *_WHERE),
    ),
    Method(
        name="miss",
        description="One trained matrix, shared by the shards that the inputs are cut into (Kang & Yin 2024).",
        peft_config=_miss,
        reads_directions=True,
        uses=("rank", "dropout", *_WHERE),
    ),
    Method(
        name="bitfit",
        description="Trains the biases of the blocks and nothing else (Ben Zaken et al. 2022).",
        opens="biases",
        uses=("blocks", "last_blocks"),
    ),
    Method(
        name="layernorm",
        description="Trains the layer norms and nothing else (Basu et al. 2024).",
        opens="norms",
        uses=("blocks", "last_blocks"),
    ),
    Method(
        name="vpt",
        description="Trains prompt tokens before every block, deep visual prompt tuning (Jia et al. 2022).",
        prompts=True,
        uses=("prompts", "blocks", "last_blocks"),
    ),
    Method(
        name="ivlp",
        description="Trains prompt tokens before every block of the image and of the text encoder, apart from each "
        "other, and no head (IVLP, Khattak et al. 2023).",
        prompts=True,
        uses=("prompts", "blocks", "last_blocks"),
    ),
    Method(
        name="last_blocks",
        description="Trains the last blocks whole, and the norm after them.",
        opens="blocks",
        fit_adapter=AdapterSpec(last_blocks=2),
        uses=("blocks", "last_blocks"),
    ),
    Method(name="full", description="Trains every weight of the encoder.", opens="everything"),
):
    METHODS.add(_method)
