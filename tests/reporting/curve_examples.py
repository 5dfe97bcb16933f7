"""Tables of the pipeline switch_curves whose differences between methods are known."""

import numpy as np
import pandas as pd

SOLVER, STEPS = "ddim", 4
COST = {"deep": 1.0, "middle": 0.5, "shallow": 0.2}  # GMACs an evaluation
SEEDS = (101, 102, 103, 104, 105)
SHARED = np.array([0.7, -0.4, 0.1, -0.6, 0.2])  # what noise does to every plan alike
OWN = np.array([0.02, -0.01, 0.0, 0.01, -0.02])  # and to plans that begin shallow


def curves_table(duodiff: float = 0.0, shallow: float = 3.0) -> pd.DataFrame:
    """FID 10 minus its cost of the deep network, whatever its steps; 6 + k/2 + `duodiff` of the switch k; 6 + `shallow`
    of the shallow network, 7 of the middle one (4 and 6 steps) and 9 of the order reversed: means over blocks.
    """
    deep = COST["deep"]
    plans = [("deep", steps, None, deep * steps, 10 - deep * steps) for steps in (1, 2, 3, STEPS)]
    plans += [("middle", steps, None, COST["middle"] * steps, 7.0) for steps in (4, 6)]
    plans.append(("shallow", STEPS, None, COST["shallow"] * STEPS, 6 + shallow))
    for k in range(1, STEPS):
        gmacs = COST["shallow"] * k + deep * (STEPS - k)
        plans.append(("duodiff", STEPS, k, gmacs, 6 + k / 2 + duodiff))
        plans.append(("reversed", STEPS, STEPS - k, gmacs, 9.0))
    tables = [
        pd.DataFrame(
            {
                "plan": f"{role} {SOLVER} {steps} k={k}",
                "role": role,
                "solver": SOLVER,
                "steps": steps,
                "k": pd.Series([k] * len(SEEDS), dtype="Int64"),
                "gmacs": gmacs,
                "seed": SEEDS,
                "fid": fid + SHARED + (OWN if role in ("duodiff", "shallow") else 0),
            }
        )
        for role, steps, k, gmacs, fid in plans
    ]
    return pd.concat(tables, ignore_index=True)


def suggests(k: int) -> list[dict[str, object]]:
    """What the pipeline loss_gap would leave."""
    return [{"solver": SOLVER, "steps": STEPS, "k": k, "k_low": k, "k_high": k}]
