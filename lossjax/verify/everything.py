"""What ``lossjax verify`` does: the theorems and the losses, in one pool of processes, told result by result."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lossjax.verify._losses import Certified, certify_all
from lossjax.verify._theorems import prove
from lossjax.verify.claim import DTYPES as CLAIM_DTYPES
from lossjax.verify.claim import SECTIONS, Result, claims
from lossjax.verify.samples import DTYPES as LOSS_DTYPES
from lossjax.verify.samples import names
from lossjax.verify.workers import pool_of

SECONDS = {"claim": 0.5, "float32": 3.7, "other": 1.0}
"""What a claim, a loss in float32, and one in another dtype take on one of two busy cores, for the estimate."""


class Plan(NamedTuple):
    """What is to be done: sections of the chapter and losses by name (empty: all), and dtypes of losses."""

    sections: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = LOSS_DTYPES[:1]

    @classmethod
    def of(cls, sections: Sequence[str], only: Sequence[str], *, every_dtype: bool) -> "Plan":
        """The plan with everything checked; ValueError for a section or a loss that does not exist."""
        for section in sections:
            if section not in SECTIONS:
                raise ValueError(f"there is no section {section!r}; wanted some of {', '.join(SECTIONS)}")
        for name in only:
            if name not in names():
                raise ValueError(f"there is no loss {name!r}; there are {', '.join(names())}")
        return cls(tuple(sections), tuple(only), LOSS_DTYPES if every_dtype else LOSS_DTYPES[:1])

    @property
    def claims(self) -> int:
        """How many claims, each in two dtypes."""
        return 0 if self.only and not self.sections else sum(c.section in (self.sections or SECTIONS) for c in claims())

    @property
    def losses(self) -> int:
        """How many losses, each in every dtype of the plan."""
        return 0 if self.sections and not self.only else len(self.only or names())

    @property
    def steps(self) -> int:
        """How many results there will be."""
        return len(CLAIM_DTYPES) * self.claims + len(self.dtypes) * self.losses

    def seconds(self, processes: int) -> float:
        """About how long it takes on so many cores."""
        of_loss = SECONDS["float32"] + SECONDS["other"] * (len(self.dtypes) - 1)
        return (SECONDS["claim"] * len(CLAIM_DTYPES) * self.claims + of_loss * self.losses) / processes + 5

    def sentence(self, processes: int) -> str:
        """What will be done and how long it takes, for a person."""
        parts = []
        if self.claims:
            parts.append(f"{self.claims} claims in {' and '.join(CLAIM_DTYPES)}")
        if self.losses:
            parts.append(f"{self.losses} losses in {', '.join(self.dtypes)}")
        minutes = self.seconds(processes) / 60
        long = "less than a minute" if minutes < 1 else f"about {minutes:.0f} minute{'s' * (round(minutes) > 1)}"
        return f"Checking {', and '.join(parts)}, in {processes} process{'es' * (processes > 1)}: {long}."


def run(
    plan: Plan,
    *,
    processes: int,
    proven: Callable[[Result], None] = lambda _: None,
    certified: Callable[[Certified], None] = lambda _: None,
) -> tuple[list[Result], list[Certified]]:
    """Carry out a plan; each result is told when it is there."""
    with pool_of(processes) as pool:
        results = prove(CLAIM_DTYPES, plan.sections, proven, pool) if plan.claims else []
        losses = certify_all(plan.only, plan.dtypes, certified, pool) if plan.losses else []
    return results, losses
