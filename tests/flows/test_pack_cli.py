"""``styleclip pack``: a pack imported, shown and exported by its commands; an error is one line and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from flows.pack_cli import pack_app
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.pipeline.checkpoints import rosinality_files as ro


def pack(*arguments: object) -> Result:
    return CliRunner().invoke(pack_app, [str(x) for x in arguments], env={"COLUMNS": "200"})


IMPORT = """
import json, sys
from flows.cli import main
sys.argv = ["styleclip", "pack", "import", {source!r}, "--to", {to!r}, *{more!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"peak": int(peak.split()[1]) * 1024, "modules": sorted(sys.modules)}}))
"""


def import_in_a_process(source: Path, to: Path, *more: str) -> dict[str, Any]:
    """``styleclip pack import`` in a process of its own: its peak of resident memory in bytes and what it imported."""
    script = IMPORT.format(source=str(source), to=str(to), more=more)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=1800, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_import_of_a_generator_loads_no_clip_no_compiler_and_no_prefect(pickle_file: Path, tmp_path: Path):
    modules = set(import_in_a_process(pickle_file, tmp_path / "mine")["modules"])
    assert "torch" in modules
    assert not modules & {"open_clip", "timm", "torchvision", "transformers", "prefect", "pandas"}
    assert not modules & {"triton", "torch._dynamo", "torch._inductor"}


@pytest.fixture(scope="module")
def pickle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nv.save_pickle(tmp_path_factory.mktemp("files") / "network.pkl", nv.random_generator(16))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_import_that_names_another_clip_looks_it_up_in_a_process_of_its_own(pickle_file: Path, tmp_path: Path):
    tag = ("--clip-name", "ViT-B-32", "--clip-pretrained", "laion2b_s34b_b79k")
    modules = set(import_in_a_process(pickle_file, tmp_path / "mine", *tag)["modules"])
    assert not modules & {"open_clip", "timm", "torchvision"}
    assert json.loads((tmp_path / "mine" / "pack.json").read_text())["clip"]["name"] == "ViT-B-32"


def test_import_show_and_export(pickle_file: Path, tmp_path: Path):
    imported = pack(
        "import",
        pickle_file,
        "--to",
        tmp_path / "mine",
        "--domain",
        "noise",
        "--licence",
        "own work",
        "--align",
        "center-crop",
    )
    assert imported.exit_code == 0, imported.output
    assert "network.pkl: nvlabs -> generator.safetensors, preview.png" in imported.output
    assert "left out on purpose: 8 tensors" in imported.output
    shown = pack("show", tmp_path / "mine")
    assert shown.exit_code == 0, shown.output
    for words in ("16 px", "own work", "ViT-B-32-quickgelu", "from network.pkl", "identity network", "center-crop"):
        assert words in shown.output
    exported = pack("export", tmp_path / "mine", tmp_path / "out.pt", "--format", "nvlabs-state")
    assert exported.exit_code == 0, exported.output
    assert "G_ema" in torch.load(tmp_path / "out.pt", weights_only=True)


def test_clamp_and_half_precision_of_a_pickle_say_whether_they_are_on(tmp_path: Path):
    path = nv.save_pickle(tmp_path / "x.pkl", nv.random_generator(16, conv_clamp=256, num_fp16_res=2))
    usual = pack("import", path, "--to", tmp_path / "usual")
    assert "conv_clamp: 256.0\n" in usual.output
    assert "clamp_reached: by none of seeds 0 to 3" in usual.output
    assert "num_fp16_res: 2 (in the file, off in the pack; import with --parity nvlabs to keep it)" in usual.output
    assert "off in the pack" in pack("show", tmp_path / "usual").output
    off = pack("import", path, "--to", tmp_path / "off", "--parity", "none")
    assert "conv_clamp: 256.0 (in the file, off in the pack; import without --parity none to keep it)" in off.output
    on = pack("import", path, "--to", tmp_path / "on", "--parity", "nvlabs")
    assert "conv_clamp: 256.0\n" in on.output
    assert "num_fp16_res: 2\n" in on.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "tensorflow"), "--format: Input should be 'nvlabs'"),
        (("--parity", "exact"), "--parity: Input should be 'nvlabs'"),
        (("--align", "faces"), "--align: Input should be 'ffhq'"),
        (("--label", "1"), "the generator has no classes"),
        (("--clip-name", "ViT-B-32"), "QuickGELU"),
    ],
)
def test_wrong_option_is_one_line_and_leaves_no_pack(
    arguments: tuple[str, ...], message: str, pickle_file: Path, tmp_path: Path
):
    result = pack("import", pickle_file, "--to", tmp_path / "mine", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "mine" / "pack.json").exists()


def test_hostile_file_is_one_line(tmp_path: Path):
    (tmp_path / "x.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    result = pack("import", tmp_path / "x.pkl", "--to", tmp_path / "mine")
    assert result.exit_code == 2
    assert "refused, nothing was run: it asks for 'os.system'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_names_with_brackets_are_shown_as_they_are(pickle_file: Path, tmp_path: Path):
    source, to = tmp_path / "run[b].pkl", tmp_path / "pack[b]"
    source.write_bytes(pickle_file.read_bytes())
    assert "run[b].pkl: nvlabs -> " in pack("import", source, "--to", to, "--domain", "cats [bold]").output
    shown = pack("show", to).output
    assert "cats [bold]" in shown
    assert "from run[b].pkl" in shown
    source.write_bytes(b"")
    assert "run[b].pkl" in pack("import", source, "--to", tmp_path / "other").stderr


def test_unknown_export_format_is_one_line(tmp_path: Path):
    result = pack("export", "peeps", tmp_path / "x.pt", "--format", "onnx")
    assert result.exit_code == 2
    assert "must be one of rosinality, nvlabs-state; got 'onnx'" in result.stderr


def test_show_names_the_words_of_a_prompt_list_that_the_clip_never_saw(tmp_path: Path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("name,target\nwizard,a wizard hat\nhat,a face with a hat\n")
    shown = pack("show", "peeps", "--prompts", prompts)
    assert shown.exit_code == 0, shown.output
    assert "prompt 'wizard': CLIP does not know 'wizard'" in shown.output
    assert "prompt 'hat'" not in shown.output


def test_show_tells_every_row_of_a_prompt_list_on_a_line_of_its_own(tmp_path: Path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("name;target;strengths\nhat;a hat;6,5\n;;\ncap;;8\n")
    shown = pack("show", "peeps", "--prompts", prompts)
    assert shown.exit_code == 2
    first, *told = shown.stderr.strip().split("\n  ")
    assert first.endswith("prompts.csv: 2 problems.")
    assert [line.split(":")[0] for line in told] == ["line 2", "line 4"]


def test_import_warns_of_an_unusual_mapping_and_takes_its_rate(tmp_path: Path):
    path = ro.save_converted(tmp_path / "x.pt", ro.random_generator(8, lr_mlp=0.1))
    assert "import again with --mapping-lr 0.1" in pack("import", path, "--to", tmp_path / "a").output
    told = pack("import", path, "--to", tmp_path / "b", "--mapping-lr", "0.1")
    assert told.exit_code == 0
    assert "mapping_lr: 0.1\n" in told.output
    assert pack("import", path, "--to", tmp_path / "c", "--mapping-lr", "0").exit_code == 2
