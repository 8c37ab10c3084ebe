"""``styleclip pack``: show, import and export model packs."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

pack_app = typer.Typer(help="Model packs.", no_args_is_help=True)
console = Console(markup=False)  # names and messages hold brackets of their own, as in [n, 18, 512]
errors = Console(stderr=True, markup=False)
PackArgument = Annotated[str, typer.Argument(help="Name of a built-in pack, or folder or URI.")]


def _fail(error: Exception) -> typer.Exit:
    """What the user got wrong: one line on stderr, or one for each thing in a prompt list; exit code 2."""
    errors.print(Text("error: ", "bold red") + Text(told(error)), soft_wrap=True)
    return typer.Exit(2)


def told(error: BaseException) -> str:
    """An error's message in one line; that of a prompt list with a line for each of its rows that is wrong."""
    from pipeline.errors import PromptError

    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return ("\n  " if isinstance(error, PromptError) else " ").join(lines)


@pack_app.command("show")
def show_pack(
    pack: PackArgument = "peeps",
    prompts: Annotated[
        str | None, typer.Option(help="Prompt list to check: names the words that the pack's CLIP never saw.")
    ] = None,
) -> None:
    """What a pack holds: models, sizes, defaults, licence, and where imported parts are from."""
    from pipeline.errors import PipelineError
    from pipeline.packs.pack import load_pack
    from pipeline.prompts import read_prompts
    from storage import StorageError

    try:
        loaded = load_pack(pack, device="cpu")
        generator = loaded.generator
        own_clip = loaded.clip if loaded.description.clip.name is None else None
        checked = [] if prompts is None else read_prompts(prompts, default_neutral=loaded.description.neutral)
    except (PipelineError, StorageError) as error:
        raise _fail(error) from error
    about = loaded.description
    count = sum(x.numel() for x in generator.parameters())
    size = f"{generator.space.resolution} px, {count:,} parameters, {generator.space.num_channels:,} style channels"
    if own_clip is None:
        clip = f"{about.clip.name}, {about.clip.pretrained} (open_clip fetches it)"
    else:
        clip = f"own, {sum(x.numel() for x in own_clip.model.parameters()):,} parameters, {own_clip.image_size} px"
    rows = [
        ("domain", about.domain),
        ("generator", size),
        ("CLIP", clip),
        ("identity network", _kind(about.identity)),
        ("inverter", _kind(about.inverter)),
        ("framing of photos", about.align),
        ("oracle", "none" if about.oracle is None else f"reads {', '.join(about.oracle.attributes)}"),
        ("neutral prompt", about.neutral),
        ("default strength", f"{about.strength:g}"),
        ("default channels", str(about.num_channels)),
        ("licence", about.licence),
        *((f"from {name}", _provenance(record, about.generator)) for name, record in about.imported.items()),
        ("where", loaded.store.uri),
        ("digest", loaded.digest),
    ]
    table = Table(show_header=False, title=f"pack {about.name} v{about.version}", title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(key, value)
    console.print(table)
    if checked and own_clip is not None:
        found = {x.name: own_clip.unknown_words(f"{x.target} {x.neutral}") for x in checked}
        for name, words in found.items():
            if words:
                console.print(f"prompt {name!r}: CLIP does not know {', '.join(map(repr, words))}", style="yellow")
        if not any(found.values()):
            console.print(f"CLIP knows every word of the {len(checked)} prompts")
    elif checked:
        console.print(f"the {len(checked)} prompts can be read")


def _kind(config: Any) -> str:
    return "none" if config is None else config.kind


def _provenance(record: dict[str, Any], generator: Any) -> str:
    skip = ("format", "sha256", "files", "unused")
    notes = [_note(k, v, generator, " ") for k, v in record.items() if k not in skip and v is not None]
    left = f"{len(record['unused'])} tensors left out"
    return ", ".join([record["format"], *notes, left, f"sha256 {record['sha256'][:12]}..."])


def _note(key: str, value: Any, generator: Any, between: str) -> str:
    """One note of an import; what a pickle records but the pack's generator does not do, says so."""
    off = key in ("conv_clamp", "num_fp16_res") and value and not getattr(generator, key)
    kept_by = (
        "import with --parity nvlabs to keep it" if key == "num_fp16_res" else "import without --parity none to keep it"
    )
    return f"{key}{between}{value}{f' (in the file, off in the pack; {kept_by})' if off else ''}"


@pack_app.command("import")
def import_command(
    sources: Annotated[list[str], typer.Argument(help="Checkpoints: a generator, and what goes with it.")],
    to: Annotated[str, typer.Option(help="Folder or URI of the pack: a new one, or one to add to.")],
    format: Annotated[
        str | None,
        typer.Option(help="nvlabs, rosinality, e4e, ir_se50, mapper or fs3; by default told from the contents."),
    ] = None,
    label: Annotated[int | None, typer.Option(min=0, help="Class of a class-conditional generator.")] = None,
    parity: Annotated[
        str | None,
        typer.Option(
            help="Of a pickle's conv_clamp and half precision, nvlabs keeps both, none neither; else the clamp."
        ),
    ] = None,
    mapping_lr: Annotated[
        float | None, typer.Option(help="lr_mlp that a rosinality generator was trained with; 0.01 by default.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the pack; by default the folder's.")] = None,
    domain: Annotated[str | None, typer.Option(help="What the generator draws.")] = None,
    neutral: Annotated[str | None, typer.Option(help="Neutral text for prompts that give none.")] = None,
    strength: Annotated[float | None, typer.Option(help="Default strength.")] = None,
    num_channels: Annotated[int | None, typer.Option(min=1, help="Default number of channels.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence and credit of the weights.")] = None,
    clip_name: Annotated[str | None, typer.Option(help="open_clip model; ViT-B-32-quickgelu by default.")] = None,
    clip_pretrained: Annotated[str | None, typer.Option(help="open_clip tag; openai by default.")] = None,
    align: Annotated[
        str | None,
        typer.Option(help="How photos are framed for the generator: ffhq, center-crop or none; also of a pack there."),
    ] = None,
) -> None:
    """Turn checkpoints into a pack, once and safely: nothing in them is run.

    Every tensor is used or listed as left out; at the end four seeds are drawn, see preview.png in the pack.
    """
    given = {k: v for k, v in locals().items() if k not in ("sources", "to") and v is not None}
    from pydantic import ValidationError

    from pipeline.checkpoints.import_pack import ImportOptions, import_pack
    from pipeline.errors import PipelineError
    from pipeline.machine.memory import give_back_memory
    from pipeline.packs.pack import Pack
    from storage import StorageError, Store

    give_back_memory()
    try:
        store = Store(to)
        reports = import_pack(sources, store, options=ImportOptions(**given))
    except ValidationError as error:
        problem = error.errors()[0]
        where = "--" + str(problem["loc"][0]).replace("_", "-") if problem["loc"] else "the options"
        raise _fail(ValueError(f"{where}: {problem['msg']}; got {problem['input']!r}.")) from error
    except (PipelineError, StorageError) as error:
        raise _fail(error) from error
    generator = Pack(store, device="cpu").description.generator
    for report in reports:
        console.print(f"{report.source}: {report.format} -> {', '.join(report.files)}", soft_wrap=True, highlight=False)
        if report.unused:
            console.print(f"  left out on purpose: {_summary(report.unused)}", soft_wrap=True, highlight=False)
        for key, value in report.notes.items():
            if value is not None:
                style = "yellow" if key == "mapping_lr" and isinstance(value, str) else None  # a warning
                console.print(f"  {_note(key, value, generator, ': ')}", soft_wrap=True, highlight=False, style=style)
    console.print(f"pack: {store.uri} (look at preview.png)", soft_wrap=True, highlight=False)


def _summary(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} tensors: {shown}{', ...' if len(names) > 3 else ''}; all are named in pack.json"


@pack_app.command("export")
def export_command(
    pack: PackArgument,
    out: Annotated[Path, typer.Argument(help="File to write, e.g. generator.pt.")],
    format: Annotated[str, typer.Option(help="rosinality or nvlabs-state.")] = "rosinality",
) -> None:
    """Write a pack's generator in a form that other tools read."""
    from typing import cast, get_args

    from pipeline.checkpoints.export import ExportFormat, export_generator
    from pipeline.errors import PackError, PipelineError
    from pipeline.packs.pack import load_pack
    from storage import StorageError, Store

    try:
        if format not in get_args(ExportFormat):
            raise PackError(f"--format must be one of {', '.join(get_args(ExportFormat))}; got {format!r}.")
        data, advice = export_generator(load_pack(pack, device="cpu").generator, cast(ExportFormat, format))
        Store(str(out.parent)).write_bytes(out.name, data)
    except (PipelineError, StorageError) as error:
        raise _fail(error) from error
    console.print(f"{out} ({len(data):,} bytes). Build it with: {advice}", soft_wrap=True, highlight=False)
