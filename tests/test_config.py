"""The settings."""

import inspect
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from fbr_plugin import FBRConfig, GateConfig, recommended
from fbr_plugin.config import merged, preset


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


@pytest.mark.parametrize("kind", [FBRConfig, GateConfig])
def test_every_field_is_documented(kind):
    for field in fields(kind):
        assert f"\n    {field.name}: " in (inspect.getdoc(kind) or ""), field.name


def test_the_recommended_settings_are_the_gate_alone():
    assert recommended() == {"fbr": FBRConfig(enabled=False), "gate": GateConfig()}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_clusters", 0, "num_clusters must be at least 1, got 0"),
        ("recluster_every", 0, "recluster_every must be at least 1, got 0"),
        ("temperature", 0.0, "temperature must be positive, got 0.0"),
        ("temperature", float("nan"), "temperature must be positive, got nan"),
        ("decay", 1.0, r"decay must lie in \[0, 1\), got 1.0"),
        ("similarity_quantile", -0.1, r"similarity_quantile must lie in \[0, 1\), got -0.1"),
        ("background_score", 2.0, r"background_score must lie in \[0, 1\], got 2.0"),
    ],
)
def test_settings_of_the_gate_out_of_range(field, value, message):
    with pytest.raises(ValueError, match=message):
        GateConfig(**{field: value})


def test_a_preset_is_the_default_of_the_nearest_class():
    class Base:
        def __init__(self, rate=1, other=2):
            pass

    class Middle(Base):
        def __init__(self, rate=3, **kwargs):
            pass

    class Last(Middle):
        pass

    assert (preset(Last, "rate"), preset(Last, "other")) == (3, 2)
    with pytest.raises(ValueError, match="Last has no argument 'missing'"):
        preset(Last, "missing")


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
        ("sampling", "random", "sampling must be one of 'graph', 'uniform', got 'random'"),
        ("bank_rows", "mean", "bank_rows must be one of 'nrois', 'pixels', got 'mean'"),
        ("bank_size", 10, r"min_bank \(64\) must not exceed bank_size \(10\)"),
    ],
)
def test_values_out_of_range(field, value, message):
    with pytest.raises(ValueError, match=message):
        FBRConfig(**{field: value})


def test_settings_are_merged():
    default = FBRConfig.ppc()
    assert merged(default, {"dim": 32}) == replace(default, dim=32)
    assert merged(default, other := FBRConfig(dim=32)) is other


def test_what_is_not_settings_is_not_merged():
    with pytest.raises(ValueError, match="FBRConfig has no field 'dims'; did you mean dim"):
        merged(FBRConfig(), {"dims": 32})
    with pytest.raises(
        TypeError, match=r"expected FBRConfig\(...\) or a mapping of its fields enabled, .*; got 32"
    ):
        merged(FBRConfig(), 32)


def test_documents_list_every_setting():
    table = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
    amn, ppc = FBRConfig.amn(), FBRConfig.ppc()
    for field in fields(FBRConfig):
        ours, theirs = getattr(amn, field.name), getattr(ppc, field.name)
        cell = f" {theirs} " if theirs != ours else " "
        assert f"| `{field.name}` | {ours} |{cell}|" in table, field.name
    for field in fields(GateConfig):
        assert f"| `{field.name}` | {field.default} |" in table, field.name


def test_terms_of_weight_0_are_disabled():
    assert FBRConfig().disabled_terms() == []
    assert FBRConfig(weight_sim=0, weight_fg=0).disabled_terms() == ["fg", "sim"]
    off = {f"weight_{term}": 0.0 for term in ("fg", "bg", "seg", "sim")}
    assert FBRConfig(**off).disabled_terms() == ["fg", "bg", "seg", "sim", "total"]
