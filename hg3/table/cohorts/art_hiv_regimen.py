"""Regimens of the ART-for-HIV stand-in: a joint draw of five columns, and monthly switches that keep it.

A person has one third agent: an integrase inhibitor (INI), an NNRTI, a protease inhibitor (PI), or none
recorded. That class is drawn first, then the base combination and the agents given the class. A switch draws
part of the regimen again from the same conditional shares, so that every month has the same joint shares (a
Gibbs step).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hg3.table.cohorts.art_hiv_truths import N_MONTHS, Shares, Truth

Codes = NDArray[np.int64]
Table = NDArray[np.float64]  # (classes or conditions, categories), rows sum to 1

INI, NNRTI, PI, NO_AGENT = range(4)
BASE, COL_INI, COL_NNRTI, COL_PI, COL_PK = range(5)
NOT_APPLIED = {COL_INI: 3, COL_NNRTI: 3, COL_PI: 5}
DRV_BASE = 3  # DRV+FTC+TDF

# Darunavir in the base is boosted: the extra PI of such a month is mostly the booster (RTVB, RTV).
PI_GIVEN_DRV_BASE = np.array([0.13, 0.72, 0.0, 0.13, 0.02])

# Pharmacokinetic enhancers go with elvitegravir and with PIs, hardly ever with NNRTIs. Only the ratio counts.
PK_WEIGHT = np.array([1.25, 0.09, 0.95, 0.0])

# What a switch draws again: the whole regimen, the third agent within its class, or the enhancer alone.
SWITCH_WHOLE, SWITCH_AGENT, SWITCH_PK = 0.55, 0.30, 0.15


@dataclass(frozen=True)
class RegimenShares:
    """Conditional shares of a regimen: ``third_agent`` (4,), the tables one row a condition."""

    third_agent: Table
    base: Table  # (4 classes, 6)
    ini: Table  # (1, 3)
    nnrti: Table  # (1, 3)
    pi: Table  # (2, 5): other base, DRV base
    pk: Table  # (4,), P(enhancer | class)


def regimen_shares(truth: Truth) -> RegimenShares:
    """Return conditional shares whose marginals are those of ``truth``."""
    used = [1 - truth.ini[-1], 1 - truth.nnrti[-1], 1 - truth.pi[-1]]
    third_agent = np.array([*used, 1 - sum(used)])
    base = _base_given_class(truth, third_agent)
    drv = truth.base_given_pi[DRV_BASE]
    pi_all = np.array(truth.pi[:-1]) / used[PI]
    pi_other = (pi_all - drv * PI_GIVEN_DRV_BASE) / (1 - drv)
    return RegimenShares(
        third_agent=third_agent,
        base=base,
        ini=_normalised(truth.ini[:-1])[None],
        nnrti=_normalised(truth.nnrti[:-1])[None],
        pi=np.stack([pi_other, PI_GIVEN_DRV_BASE]),
        pk=PK_WEIGHT * truth.pk_enhancer / (PK_WEIGHT @ third_agent),
    )


def simulate_regimens(n_patients: int, truth: Truth, rng: np.random.Generator) -> Codes:
    """Return regimen codes, shape (n_patients, 60, 5): base, INI, NNRTI, PI, pk-enhancer."""
    shares = regimen_shares(truth)
    third_agent = draw(np.broadcast_to(shares.third_agent, (n_patients, 4)), rng)
    regimen = _draw_regimen(third_agent, shares, rng)
    # Exponential frailty: many patients never switch, some switch often.
    rate = truth.switch_rate * rng.exponential(size=n_patients)
    months = np.empty((n_patients, N_MONTHS, 5), dtype=np.int64)
    months[:, 0] = regimen
    for month in range(1, N_MONTHS):
        _switch(np.flatnonzero(rng.random(n_patients) < rate), third_agent, regimen, shares, rng)
        months[:, month] = regimen
    return months


def draw(shares: Table, rng: np.random.Generator) -> Codes:
    """Return one code a row of ``shares``, shape (n,)."""
    edges = np.cumsum(shares, axis=1)[:, :-1]
    return np.asarray((rng.random((len(shares), 1)) > edges).sum(axis=1), dtype=np.int64)


def _normalised(shares: Shares) -> Table:
    return np.array(shares) / sum(shares)


def _base_given_class(truth: Truth, third_agent: Table) -> Table:
    """Base shares by class: NNRTI and PI as given, the other two take what the marginal leaves."""
    nnrti, pi = np.array(truth.base_given_nnrti), np.array(truth.base_given_pi)
    rest = np.array(truth.base) - third_agent[NNRTI] * nnrti - third_agent[PI] * pi
    rest /= rest.sum()
    return np.stack([rest, nnrti, pi, rest])


def _draw_regimen(third_agent: Codes, shares: RegimenShares, rng: np.random.Generator) -> Codes:
    """Draw base, agents and enhancer given the class, shape (n, 5)."""
    regimen = np.empty((len(third_agent), 5), dtype=np.int64)
    regimen[:, BASE] = draw(shares.base[third_agent], rng)
    _draw_agents(np.arange(len(third_agent)), third_agent, regimen, shares, rng)
    _draw_pk(np.arange(len(third_agent)), third_agent, regimen, shares, rng)
    return regimen


def _draw_agents(
    rows: Codes, third_agent: Codes, regimen: Codes, shares: RegimenShares, rng: np.random.Generator
) -> None:
    for column, code in NOT_APPLIED.items():
        regimen[rows, column] = code
    ini, nnrti, pi = (rows[third_agent[rows] == agent] for agent in (INI, NNRTI, PI))
    regimen[ini, COL_INI] = draw(shares.ini.repeat(len(ini), axis=0), rng)
    regimen[nnrti, COL_NNRTI] = draw(shares.nnrti.repeat(len(nnrti), axis=0), rng)
    has_drv_base = (regimen[pi, BASE] == DRV_BASE).astype(np.int64)
    regimen[pi, COL_PI] = draw(shares.pi[has_drv_base], rng)


def _draw_pk(rows: Codes, third_agent: Codes, regimen: Codes, shares: RegimenShares, rng: np.random.Generator) -> None:
    regimen[rows, COL_PK] = rng.random(len(rows)) < shares.pk[third_agent[rows]]


def _switch(rows: Codes, third_agent: Codes, regimen: Codes, shares: RegimenShares, rng: np.random.Generator) -> None:
    """Draw part of the regimen of ``rows`` again, in place."""
    kind = draw(np.broadcast_to([SWITCH_WHOLE, SWITCH_AGENT, SWITCH_PK], (len(rows), 3)), rng)
    whole, agent, pk = (rows[kind == k] for k in range(3))
    third_agent[whole] = draw(np.broadcast_to(shares.third_agent, (len(whole), 4)), rng)
    regimen[whole] = _draw_regimen(third_agent[whole], shares, rng)
    _draw_agents(agent, third_agent, regimen, shares, rng)
    _draw_pk(pk, third_agent, regimen, shares, rng)
