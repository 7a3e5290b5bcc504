"""A recommender of MovieLens latest-small, saved: what a model that lives may start from."""

import dataclasses
from pathlib import Path

import common

import jaxmf
from jaxmf.keeping.programs import keep_programs


@dataclasses.dataclass
class Start:
    """Where to, and of what size."""

    out: Path
    """Folder of the checkpoint; where there is one, nothing is done."""
    rank: int = 32
    """Number of factors."""


def main(args: Start) -> None:
    """Fit and save, once."""
    if args.out.exists():
        common.say(f"{args.out} is there already")
        return
    keep_programs()
    names = {"user": "userId", "item": "movieId", "rating": "rating"}
    jaxmf.Recommender.fit(jaxmf.datasets.movielens_small_frame(), **names, rank=args.rank).save(args.out)
    common.say(f"fitted and saved at {args.out}")


if __name__ == "__main__":
    common.run(main, Start)
