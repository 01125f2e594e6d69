"""Modules of somebody's own: imported first, found by name or as `module:name`, or refused."""

import sys
import textwrap

import numpy as np
import pytest

import regjax as rj
from experiments import ConfigError
from experiments.data import dataset
from experiments.evaluation import metrics, perturbation_entries, perturbations
from experiments.runs import imports
from experiments.runs.shown import shown
from regjax.core.stages import REGISTRY

OWN = """
    import numpy as np
    import regjax as rj
    from experiments.data.sources import Dataset
    from experiments.evaluation.metrics import metric
    from experiments.evaluation.perturbations import kind

    @rj.penalty
    def NAME_decay(point):
        return (point.outputs.logits**2).sum(-1)

    @metric(needs=("confidence",), words="sureness (%)", percent=True)
    def NAME_sureness(rows):
        return float(rows["confidence"].mean(dtype=np.float64))

    def above(share=0.5):
        @metric(needs=("confidence",), words=f"above {share}")
        def NAME_above(rows):
            return float((rows["confidence"] > share).mean())
        return NAME_above

    @kind("share", 0, 1)
    def NAME_darkness(view, batch):
        return lambda level: view.prepare(batch.image * (1 - level))

    def spots(data_dir, image_size, count=4):
        image = np.zeros((count, 2, 2, 1), np.uint8)
        split = {"image": image, "label": np.arange(count, dtype=np.int32) % 2}
        return Dataset("spots", split, split, 2)
"""


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    tables = (dataset.DATASETS, metrics.METRICS, perturbations.KINDS)
    before = [dict(table) for table in tables]
    yield
    for table, rest in zip(tables, before, strict=True):
        table.clear()
        table.update(rest)


@pytest.fixture
def own(tmp_path, request):
    """The name of a module that no other test has imported."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(OWN).replace("NAME", name))
    yield name
    sys.modules.pop(name, None)


def test_decorators_register(own):
    imports.load({"imports": (own,)})
    assert f"{own}_decay" in REGISTRY
    assert f"{own}_sureness" in metrics.METRICS
    assert f"{own}_darkness" in perturbations.KINDS


def test_what_an_entry_names_with_its_module_is_found_by_that_name(own):
    config = {
        "losses": {"x": f"cross_entropy | {own}:{own}_decay(weight={{strength}})"},
        "dataset": f"{own}:spots(count=6)",
        "metrics": [f"{own}:{own}_sureness", f"{own}:above(share=0.25)", "accuracy"],
        "perturbations": {
            "dark": f"{own}:{own}_darkness(share=(0.2,))",
            "theirs": f"dataset(name='{own}:spots')",
        },
    }
    imports.load(config)
    text = config["losses"]["x"].format(strength=0.5)
    assert repr(rj.parse(text)) == text
    assert len(dataset.DATASETS[f"{own}:spots(count=6)"](None, 0).train["label"]) == 6
    assert f"{own}:spots" in dataset.DATASETS
    rows = {"confidence": np.array([0.2, 0.3, 0.4, 0.9])}
    assert metrics.METRICS[f"{own}:above(share=0.25)"](rows) == 0.75
    assert shown(f"{own}:{own}_sureness").words == "sureness (%)"
    read = perturbation_entries.read(config["perturbations"]["dark"])
    assert (read.levels, read.level) == ((0.2,), "share")


def test_paths_of_data_sets_are_no_modules():
    before = {*sys.modules}
    imports.load({"dataset": "folder:pictures", "mixture": {"npz:more": 0.5}})
    imports.load({"dataset": "cityscapes:streets"})
    assert {*sys.modules} == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"imports": "own"}, "config.imports must be a tuple of modules by name, such as"),
        ({"imports": ("absent.of",)}, "config.imports names 'absent.of', which cannot be found: "),
        ({"imports": ("./own.py",)}, "config.imports names './own.py', which cannot be found: "),
        ({"imports": ("",)}, "config.imports names '', which cannot be found: "),
        ({"model": "absent:Net"}, "config.model, 'absent:Net', names the module absent, which can"),
        ({"imports": ("broken",)}, r"'broken', which fails while it is imported: NameError: .*y' "),
        ({"imports": ("leaving",)}, "'leaving', which fails while it is imported: SystemExit: 3"),
        ({"imports": ("needing",)}, "which fails while it is imported: ModuleNotFoundError: .*nix"),
        ({"dataset": "os:getcwdu"}, "config.dataset: the module os has no 'getcwdu'; .*getcwd"),
        ({"dataset": "os:name"}, "config.dataset: 'os:name' is no function."),
        ({"dataset": "os:getcwd(1)"}, r"config.dataset: 'os:getcwd\(1\)' cannot be read: write mo"),
        ({"metrics": ("os:getcwd",)}, "config.metrics: 'os:getcwd' is no metric: it needs the dec"),
        ({"columns": ("os:chdir(x=1)",)}, r"config.columns: 'os:chdir\(x=1\)' cannot be made: Typ"),
        ({"perturbations": {"x": "os:getcwd"}}, "config.perturbations: 'os:getcwd' is no perturba"),
    ],
)
def test_what_is_wrong_is_one_sentence(config, message, tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\nx = y\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needing.py").write_text("import nix\n")
    with pytest.raises(ConfigError, match=message) as error:
        imports.load(config)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
