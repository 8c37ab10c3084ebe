"""A whole pack in a second: a 16-px generator and a one-layer CLIP, both random, written as any pack is."""

import gzip
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, settings
from moto.server import ThreadedMotoServer
from safetensors.torch import save

from pipeline.models.clip import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE
from pipeline.models.identity import ResidualIdentity, ResidualIdentityConfig
from pipeline.models.inverter import ResidualInverter, ResidualInverterConfig
from pipeline.models.oracle import Oracle, OracleConfig
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.packs.pack import GENERATOR_FILE, IDENTITY_FILE, INVERTER_FILE, ORACLE_FILE, Pack, load_pack, write_pack
from storage import Store

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# a machine that stalls for a moment is no failure
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

BUCKET = "storage-tests"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
BROWSER_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1280,800"),
)
TINY_GENERATOR = GeneratorConfig(resolution=16, channel_base=128, channel_max=16, z_dim=8, w_dim=8, mapping_layers=2)
MERGES = ("f a", "fa c", "fac e</w>", "h a", "ha t</w>")
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 64, "vocab_size": 512 + len(MERGES) + 2, "width": 32, "heads": 2, "layers": 1},
}
TINY_NETWORKS = (ResidualIdentity, ResidualInverter, Oracle)
TINY_CONFIGS = (
    ResidualIdentityConfig(resolution=16, widths=(4, 6), embed_dim=8, attributes=("shade",)),
    ResidualInverterConfig(resolution=16, widths=(4, 6), num_ws=TINY_GENERATOR.style_space.num_ws, w_dim=8),
    OracleConfig(resolution=16, widths=(4, 6), attributes={"shade": ("light", "dark"), "hue": ("a", "b", "c")}),
)
PROMPT_ROWS = [
    {"name": "hat", "target": "a face with a hat", "neutral": "a face"},
    {"name": "Red Hair", "target": "a face with red hair", "neutral": "a face", "strengths": [2.0, 6.0]},
]


def write_tiny_pack(folder: Path) -> Path:
    """Write the tiny pack; the same weights every time."""
    torch.manual_seed(0)
    generator = Generator(TINY_GENERATOR)
    generator.mapping.w_avg.copy_(generator.map(torch.randn(500, 8))[:, 0].mean(dim=0).detach())
    clip = open_clip.CLIP(**TINY_CLIP)
    identity, inverter, oracle = (f(c) for f, c in zip(TINY_NETWORKS, TINY_CONFIGS, strict=True))
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    files = {
        GENERATOR_FILE: save(generator.state_dict()),
        IDENTITY_FILE: save(identity.state_dict()),
        INVERTER_FILE: save(inverter.state_dict()),
        ORACLE_FILE: save(oracle.state_dict()),
        WEIGHTS_FILE: save(clip.state_dict()),
        CONFIG_FILE: json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess}).encode(),
        MERGES_FILE: gzip.compress("\n".join(["#version", *MERGES]).encode(), mtime=0),
    }
    description = {
        "name": "tiny",
        "version": 1,
        "domain": "noise",
        "neutral": "a face",
        "strength": 4.0,
        "num_channels": 5,
        "licence": "none",
        "generator": TINY_GENERATOR,
        "clip": {"whole_words": True},
        "identity": TINY_CONFIGS[0],
        "inverter": TINY_CONFIGS[1],
        "oracle": TINY_CONFIGS[2],
    }
    write_pack(Store(str(folder)), description, files)
    return folder


@pytest.fixture(scope="session")
def tiny_pack_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="session")
def tiny_pack(tiny_pack_uri: str) -> Pack:
    return load_pack(tiny_pack_uri, device="cpu")


@pytest.fixture
def run_store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """URI of an empty bucket on a server that lives as long as the session."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    server.stop()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real browser, for pages opened from a disk."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()
