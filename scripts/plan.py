"""Does a fit fit, and how long would a sweep take? `python scripts/plan.py --users 5_000_000 --ratings 100_000_000`.

The sweep of ALS is compiled ahead of time for so many devices, on shapes alone: nothing of that size is ever made.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
from accelerating.made import BEND, SPREAD, STEEP
from accelerating.roofline import STATED
from common import Output, run, say, show
from jax.sharding import Mesh, NamedSharding

import jaxmf
from jaxmf import sharding
from jaxmf.data.features import Sides
from jaxmf.data.histories import PAGES, WASTE, WIDTHS, Block, even_shape
from jaxmf.data.layout import places
from jaxmf.data.packing import page_width, pages_needed
from jaxmf.model import links
from jaxmf.model.objective import Weights
from jaxmf.model.params import Params
from jaxmf.model.tables import Table
from jaxmf.training import alternating, loop
from jaxmf.training.spread import Sharded

SAMPLE, MOST = 200_000, 512
"""Rows whose numbers of ratings are drawn, and the most devices that are tried."""

NUMBER = 4
"""Bytes of a number."""

Shape = tuple[int, int, int, int]


@dataclasses.dataclass
class Plan(Output):
    """Compile a sweep that is never run."""

    users: int = 138_000
    """How many users."""
    items: int = 27_000
    """How many items."""
    ratings: int = 20_000_000
    """How many ratings."""
    rank: int = 64
    """Number of factors."""
    kernel: str = "linear"
    """The kernel: linear, logistic, polynomial or rbf."""
    devices: int = 1
    """How many devices."""
    memory: float = 80.0
    """GB of each."""
    device: str = "NVIDIA H100 80GB HBM3"
    """Whose peaks to reckon with: a name of `scripts/accelerating/roofline.py`."""
    link: float = 50.0
    """GB that a device sends a second while it receives as many."""
    pages: int = PAGES
    """Most pages of a block."""
    cg_steps: int = 3
    """Conjugate-gradient steps of a row and sweep."""
    seed: int = 0
    """Seed of the rows' numbers of ratings."""

    def __post_init__(self) -> None:
        for name in ("users", "items", "ratings", "rank", "devices", "memory", "link", "cg_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number above 0")
        if not self.devices <= MOST:
            raise ValueError(f"--devices {self.devices}: {MOST} at most are compiled for")
        if not 1 <= self.pages <= PAGES:
            raise ValueError(f"--pages {self.pages}: between 1 and {PAGES}")
        if self.device not in STATED:
            raise ValueError(f"--device {self.device!r}: the peaks of {', '.join(STATED)} are known")


class Layout(NamedTuple):
    """Stacks of blocks as (blocks, rows, pages, width), of a device's users and of all items."""

    users: list[Shape]
    items: list[Shape]


def main(args: Plan) -> None:
    """Compile for the devices asked for, and where it does not fit for twice as many until it does."""
    jax.config.update("jax_num_cpu_devices", MOST)
    rows, devices = [planned(args, args.devices)], args.devices
    while not rows[-1]["fits"] and 2 * devices <= min(MOST, len(jax.devices())):
        devices *= 2
        rows.append(planned(args, devices))
    show(f"A sweep of ALS, rank {args.rank}, {args.ratings:,} ratings, by {args.device}", rows)
    last = rows[-1]
    what = f"{last['devices']} devices of {args.memory:g} GB, in blocks of {args.pages} pages"
    say(f"\nfits on {what}" if last["fits"] else f"\ndoes not fit on {what}: take fewer pages, or a lower rank")
    args.save({"rows": rows})


def planned(args: Plan, devices: int) -> dict[str, Any]:
    """What a sweep takes on so many devices."""
    mesh = sharding.mesh_of(jax.devices()[:devices]) if devices > 1 else None
    size = -(-args.users // devices)
    layout = laid_out(args, devices, size)
    found = compiled(args, mesh, size, layout).memory_analysis()
    temporaries = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    c, peaks = args.rank + 1, STATED[args.device]
    sent = (
        2 * (devices - 1) / devices * NUMBER * sum(g * b * ((1 + args.cg_steps) * c + 3) for g, b, *_ in layout.items)
    )
    slots = sum(g * p * width for g, _, p, width in (*layout.users, *layout.items))
    # Each slot's row is read and made a gradient, which is read for the loss, the start and twice a step.
    bytes_, flops = slots * NUMBER * c * (5 + 2 * args.cg_steps), slots * c * (4 * args.cg_steps + 6)
    work = max(bytes_ / peaks.bandwidth, flops / peaks.flops)
    total = (found.argument_size_in_bytes + temporaries) / 1e9
    return {
        "devices": devices,
        "arguments_gb": found.argument_size_in_bytes / 1e9,
        "temporaries_gb": temporaries / 1e9,
        "user_table_gb": NUMBER * c * size / 1e9,
        "sent_gb": sent / 1e9,
        "tflops": flops / 1e12,
        "seconds": work + sent / 1e9 / args.link,
        "fits": total <= args.memory,
    }


def laid_out(args: Plan, devices: int, size: int) -> Layout:
    """The stacks of a device, of numbers of ratings like MovieLens's: a sample of rows is laid out as all would be."""
    rate = min(1.0, SAMPLE / (size + args.items))
    n_users, n_items = max(1, round(rate * size)), max(1, round(rate * args.items))
    rng = np.random.default_rng(args.seed)
    of_users = rng.lognormal(0, SPREAD, n_users)
    of_items = np.exp(-STEEP * ((np.arange(n_items) + 0.5) / n_items) ** BEND)
    per_side = args.ratings / devices * rate
    users, items = (np.round(weight / weight.sum() * per_side).astype(int) for weight in (of_users, of_items))
    width = page_width(np.concatenate([users, items]), WIDTHS, WASTE)

    def stacks(count: np.ndarray) -> list[Shape]:
        found = [one.shape for one in places(pages_needed(count, width), args.pages, PAGES)]
        return [(*even_shape(round(g / rate), b, p), width) for g, b, p in found]

    return Layout(stacks(users), stacks(items))


def compiled(args: Plan, mesh: Mesh | None, size: int, layout: Layout) -> Any:  # noqa: ANN401 a compiled program
    """The sweep compiled for a mesh, or for one device."""
    devices = 1 if mesh is None else mesh.size

    def abstract(shape: tuple[int, ...], dtype: type = np.float32, axis: str | None = None) -> jax.ShapeDtypeStruct:
        lying = None if mesh is None else NamedSharding(mesh, sharding.spec(axis))
        whole = shape if axis is None else (devices * shape[0], *shape[1:])
        return jax.ShapeDtypeStruct(whole, dtype, sharding=lying)

    def table(rows: int, axis: str | None = None) -> Table:
        return Table(abstract((rows,), axis=axis), abstract((rows, args.rank), axis=axis))

    def stack(shape: Shape, axis: str | None) -> Block:
        g, b, p, width = shape
        pages = [abstract((g, p, width), dtype, "ratings") for dtype in (np.int32, np.float32, np.float32)]
        rows, owner = (abstract((g, n), np.int32, "ratings") for n in (b, p))
        return Block(rows, owner, *pages, axis=axis)

    axis = None if mesh is None else sharding.SHARDS
    blocks = (*(stack(one, None) for one in layout.users), *(stack(one, axis) for one in layout.items))
    n = Weights(abstract((size,), axis="users"), abstract((args.items,)))
    data = alternating.Histories(n, blocks, Sides(), axis)
    priors, kernel, link = jax.tree.map(
        lambda x: abstract(np.shape(x)),
        (jaxmf.priors.DEFAULT, jaxmf.kernels.for_range(0.5, 5.0, args.kernel), links.init(Sides(), args.rank)),
    )
    state = alternating.State(Params(table(size, "users"), table(args.items), abstract(())), link)
    sweep = alternating.Sweep(1, args.cg_steps)
    epoch = sweep if mesh is None else Sharded(sweep, mesh)
    leaves, tree = jax.tree.flatten((state, (data, priors), kernel))
    return loop.program(epoch, loop.Form(tree, tuple(leaves)), solves=True, gives_up=(0,))


if __name__ == "__main__":
    run(main, Plan)
