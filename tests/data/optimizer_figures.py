"""Prints tests/data/optimizer_figures.json: what torch.optim makes of 200 float64 gradients.

/usr/bin/python3 tests/data/optimizer_figures.py > tests/data/optimizer_figures.json
"""

import json

import torch

ALGORITHMS = {"SGD": torch.optim.SGD, "ADAM": torch.optim.Adam, "ADAMW": torch.optim.AdamW}
START = [1.5, -0.25, 0.0]
STEPS = 200
SHOWN_STEPS = (1, 2, 10, 200)

CASES = [
    ("SgdPlain", "SGD", {"lr": 0.01}),
    ("SgdMomentum", "SGD", {"lr": 0.01, "momentum": 0.9}),
    ("SgdDampening", "SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3}),
    ("SgdNegativeDampening", "SGD", {"lr": 0.01, "momentum": 0.5, "dampening": -0.5}),
    ("SgdNesterov", "SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("SgdWeightDecay", "SGD", {"lr": 0.1, "weight_decay": 0.2}),
    ("SgdMaximize", "SGD", {"lr": 0.01, "maximize": True}),
    ("SgdEverything", "SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1,
                              "maximize": True}),
    ("AdamDefaults", "ADAM", {"lr": 0.001}),
    ("AdamBetas", "ADAM", {"lr": 0.01, "beta1": 0.5, "beta2": 0.75}),
    ("AdamBetasZero", "ADAM", {"lr": 0.01, "beta1": 0.0, "beta2": 0.0}),
    ("AdamEps", "ADAM", {"lr": 0.01, "eps": 0.5}),
    ("AdamWeightDecay", "ADAM", {"lr": 0.01, "weight_decay": 0.2}),
    ("AdamAmsgrad", "ADAM", {"lr": 0.01, "beta2": 0.5, "amsgrad": True}),
    ("AdamMaximize", "ADAM", {"lr": 0.01, "maximize": True}),
    ("AdamEverything", "ADAM", {"lr": 0.02, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3,
                                "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    ("AdamwDefaults", "ADAMW", {"lr": 0.001, "weight_decay": 0.01}),
    ("AdamwNoWeightDecay", "ADAMW", {"lr": 0.01}),
    ("AdamwWeightDecay", "ADAMW", {"lr": 0.01, "weight_decay": 0.5}),
    ("AdamwAmsgrad", "ADAMW", {"lr": 0.01, "beta2": 0.5, "weight_decay": 0.01, "amsgrad": True}),
    ("AdamwEverything", "ADAMW", {"lr": 0.02, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3,
                                  "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
]


def gradient(step):
    """Multiples of 1/64, so that no binary digit is lost on the way to another language."""
    return [((31 * step * step + 57 * i + 13 * step * i) % 257 - 128) / 64 for i in range(3)]


def options_of_torch(options):
    result = {"weight_decay": 0.0, **options}
    if "beta1" in result or "beta2" in result:
        result["betas"] = (result.pop("beta1", 0.9), result.pop("beta2", 0.999))
    return result


def run(algorithm, options):
    parameter = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = ALGORITHMS[algorithm]([parameter], **options_of_torch(options))
    parameters = {}
    for step in range(1, STEPS + 1):
        parameter.grad = torch.tensor(gradient(step), dtype=torch.float64)
        optimizer.step()
        if step in SHOWN_STEPS:
            parameters[str(step)] = parameter.tolist()
    state = optimizer.state[parameter]
    slots = [state.get(name) for name in
             (("momentum_buffer",) if algorithm == "SGD" else
              ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"))]
    return {"parameters": parameters,
            "slots": [[] if slot is None else slot.tolist() for slot in slots]}


def main():
    print("[")
    for i, (name, algorithm, options) in enumerate(CASES):
        case = {"name": name, "algorithm": algorithm, "options": options,
                **run(algorithm, options)}
        print(json.dumps(case) + ("," if i + 1 < len(CASES) else ""))
    print("]")


if __name__ == "__main__":
    main()
