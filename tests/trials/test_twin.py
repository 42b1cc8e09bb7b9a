"""The twin on which recipes are tried is `configs/double34.py`, but for its size and its recipe."""

import json
import runpy

from scripts.trials import twin

# size and drawing; then what a recipe is
SMALLER = {"image.size", "synthesis.renderer", "model.depth"}
RECIPE = {
    "loss.kind",
    "train.batch",
    "train.steps",
    "train.learning_rate",
    "train.warmup",
    "train.weight_decay",
    "train.clip_norm",
    "train.ema_decay",
}
REPORTING = {
    "train.log_every",
    "train.eval_every",
    "eval.pictures",
    "eval.batch",
    "eval.statistics_batches",
}


def flat(config):
    return {
        f"{section}.{name}": value
        for section, values in config.to_dict().items()
        if isinstance(values, dict)
        for name, value in values.items()
    }


def test_twin_differs_from_double34_in_size_and_recipe_only():
    options = twin.make_parser().parse_args(["--workdir=x", "--loss=distance", "--batch=16"])
    config = twin.make_config(options)
    ours = flat(config)
    theirs = flat(runpy.run_path("configs/double34.py")["get_config"]())
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert SMALLER <= changed <= SMALLER | RECIPE | REPORTING
    assert (config.train.steps, config.train.eval_every) == (5000, 1000)
    assert config.loss.kind == "distance"


def test_results_are_printed_by_pictures(tmp_path, capsys):
    rows = [
        {"kind": "train", "step": 10, "loss": 1.0},
        {"kind": "eval", "step": 1000, "distance": 0.12345, "distance_median": 0.1},
        {"kind": "eval", "step": 2000, "distance": 0.06, "distance_median": 0.05},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    twin.print_results(tmp_path, batch=16)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["pictures", "distance", "median"]
    assert lines[1:] == [["16000", "0.1235", "0.1000"], ["32000", "0.0600", "0.0500"]]
