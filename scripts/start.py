"""A recommender of MovieLens latest-small, saved: what a model that lives may start from; and the films' titles."""

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
    titles: Path | None = None
    """CSV file of the films' titles, written where there is none."""
    rank: int = 32
    """Number of factors."""


def main(args: Start) -> None:
    """Fit and save, once."""
    frame = jaxmf.datasets.movielens_small_frame()
    if args.titles is not None and not args.titles.exists():
        args.titles.parent.mkdir(parents=True, exist_ok=True)
        named = frame.drop_duplicates("movieId")[["movieId", "title"]]
        named.set_axis(["id", "title"], axis=1).to_csv(args.titles, index=False)
    if args.out.exists():
        common.say(f"{args.out} is there already")
        return
    keep_programs()
    names = {"user": "userId", "item": "movieId", "rating": "rating"}
    jaxmf.Recommender.fit(frame, **names, rank=args.rank).save(args.out)
    common.say(f"fitted and saved at {args.out}")


if __name__ == "__main__":
    common.run(main, Start)
