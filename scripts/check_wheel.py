"""Build the wheel and check what is in it: all modules of the package, `py.typed`, the page's files, nothing else."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Build, list, compare."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [*(ROOT / "jaxmf").rglob("*.py"), *(ROOT / "jaxmf/live/server/assets").iterdir()]
    expected = {path.relative_to(ROOT).as_posix() for path in files} | {"jaxmf/py.typed"}
    if found != expected:
        sys.exit(f"the wheel lacks {sorted(expected - found)} and should not hold {sorted(found - expected)}")
    print(f"the wheel holds {len(found)} files, as it should")


if __name__ == "__main__":
    main()
