"""The tree that ARCHITECTURE.md opens with, from the first docstring line of every module.

`python -m tests.architecture_tree` writes it into the page; a test says where it is out of step.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->\n"
PACKAGES = ("flows", "pipeline", "kernels", "storage")
WIDTH = 28
LONG = 112


def tree() -> str:
    """One line a module, rooms before what is in them."""
    lines: list[str] = []
    for package in PACKAGES:
        _describe(ROOT / package, 0, lines)
        lines.append("")
    return "\n".join(f"    {line}".rstrip() for line in lines).rstrip() + "\n"


def _describe(folder: Path, depth: int, lines: list[str]) -> None:
    lines.append(_line(f"{folder.name}/", folder / "__init__.py", depth))
    entries = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    for path in sorted(entries, key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir():
            _describe(path, depth + 1, lines)
        elif path.name != "__init__.py":
            lines.append(_line(path.stem, path, depth + 1))


def _line(name: str, path: Path, depth: int) -> str:
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n", 1)[0]
    if len(first) > LONG:  # its first clause says enough
        first = re.split(r"[:;] |[.?] (?=[A-Z])", first)[0]
    return f"{'  ' * depth + name:<{WIDTH}}{first}"


def in_page() -> str:
    """The tree as the page has it."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0].strip("\n") + "\n"


def write() -> None:
    """Bring the page into step."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tree()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    write()
