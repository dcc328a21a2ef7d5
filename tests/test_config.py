"""The settings."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from fbr_plugin import FBRConfig
from fbr_plugin.config import merged


def test_presets_are_the_published_values():
    assert FBRConfig() == FBRConfig.amn()
    amn, ppc = FBRConfig.amn(), FBRConfig.ppc()
    published = {"weight_fg": 0.1, "weight_bg": 0.05, "weight_seg": 0.1, "weight_sim": 0.1}
    assert {name: getattr(amn, name) for name in published} == published
    differs = {name: value for name, value in asdict(ppc).items() if value != getattr(amn, name)}
    assert differs == {
        "bank_size": 50_000,
        "shared_bank": False,
        "topk_divisor": 16,
        "confidence_quantile": 0.6,
        "entropy_quantile": 0.1,
        "weight_bg": 0.01,
    }


def test_every_field_is_documented():
    for field in fields(FBRConfig):
        assert f"        {field.name}: " in FBRConfig.__doc__, field.name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_clusters", 0, "num_clusters must be at least 1, got 0"),
        ("weight_fg", -0.1, "weight_fg must be a finite number of at least 0, got -0.1"),
        ("weight_bg", float("nan"), "weight_bg must be a finite number"),
        ("warmup_steps", -1, "warmup_steps must be"),
        ("entropy_quantile", 1.0, r"entropy_quantile must lie in \[0, 1\), got 1.0"),
        ("background_score", 1.5, r"background_score must lie in \[0, 1\], got 1.5"),
        ("temperature", 0.0, "temperature must be positive, got 0.0"),
        ("gate_temperature", 0.0, "gate_temperature must be positive, got 0.0"),
        ("bank_size", 10, r"min_bank \(64\) must not exceed bank_size \(10\)"),
    ],
)
def test_values_out_of_range(field, value, message):
    with pytest.raises(ValueError, match=message):
        FBRConfig(**{field: value})


def test_settings_are_merged():
    default = FBRConfig.ppc()
    assert merged(default, None) is default
    assert merged(default, {"dim": 32}) == replace(default, dim=32)
    assert merged(default, other := FBRConfig(dim=32)) is other


def test_what_is_not_settings_is_not_merged():
    with pytest.raises(ValueError, match="FBRConfig has no field 'dims'; did you mean dim"):
        merged(FBRConfig(), {"dims": 32})
    with pytest.raises(
        TypeError, match=r"expected FBRConfig\(...\) or a mapping of its fields enabled, .*; got 32"
    ):
        merged(FBRConfig(), 32)


def test_readme_lists_every_setting():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    amn, ppc = FBRConfig.amn(), FBRConfig.ppc()
    for field in fields(FBRConfig):
        ours, theirs = getattr(amn, field.name), getattr(ppc, field.name)
        cell = f" {theirs} " if theirs != ours else " "
        assert f"| `{field.name}` | {ours} |{cell}|" in readme, field.name
