"""Parameters out of natural text: read, or refused by name. Never ignored."""

# ruff: noqa: RUF001 - people write Greek letters and typographic signs in their tasks

from __future__ import annotations

from typing import Any

import pytest

from cmbagent import recipes
from cmbagent.errors import EngineError, ParameterConflict, ParameterOutOfRange, ParameterUnknown

RECIPE = recipes.named("cmb_power_spectrum")
DEFAULTS: dict[str, Any] = {parameter.name: parameter.default for parameter in RECIPE.parameters}
DEFAULTS |= {choice.name: choice.default for choice in RECIPE.choices}


def read(text: str, **configured: object) -> dict[str, Any]:
    """What differs from the defaults."""
    task = f"Compute the CMB power spectrum {text}"
    values = recipes.read_parameters(RECIPE, task, configured)
    assert values.keys() == DEFAULTS.keys()
    return {name: value for name, value in values.items() if value != DEFAULTS[name]}


def refusal(text: str, **configured: object) -> EngineError:
    with pytest.raises(EngineError) as caught:
        read(text, **configured)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "for H0 = 70",
        "with H0=70",
        "with H_0 = 70 km/s/Mpc",
        "with H_0=70km/s/Mpc.",
        "with H₀ = 70 km s⁻¹ Mpc⁻¹",
        r"with $H_0 = 70\,\mathrm{km\,s^{-1}\,Mpc^{-1}}$",
        "for H0 of 70",
        "for H0 70 and plot it",
        "with a Hubble constant of 70",
        "with a Hubble constant of 70 km/s/Mpc, please",
        "with the Hubble constant set to 70",
        "with the Hubble constant (H0) equal to 70",
        "where H0 is 70",
        "with h = 0.7",
        "with h of 0.7",
        "with H0 = 70 and h = 0.7",
        "with `H0 = 70`",
        "with **H0** = 70",
        'with {"H0": 70}',
        "with H0: 70",
        "for H0 ≈ 70",
        "for h0 = 7e1 (km/s/Mpc)",
        "in a flat universe, H0 = 70",
        "with\n\n1. H0\n = 70\n2. a plot",
        "for H0 = 70 in muK^2",
        "with H0 = 70 and the Planck 2018 values for the rest",
        "for H0 = ７０",
    ],
)
def test_h0_is_read(text: str) -> None:
    assert read(text) == {"H0": pytest.approx(70)}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("omega_b h^2 0.0224", {"ombh2": 0.0224}),
        ("ombh2=0.0224", {"ombh2": 0.0224}),
        ("Ω_b h² = 0.0224 and Ω_c h² = 0.118", {"ombh2": 0.0224, "omch2": 0.118}),
        (r"$\Omega_b h^2 = 0.0224$, $\Omega_{c}h^{2}=0.118$", {"ombh2": 0.0224, "omch2": 0.118}),
        ("Omega_bh^2 = .0224", {"ombh2": 0.0224}),
        ("n_s of 0.97 and tau of 0.06", {"ns": 0.97, "tau": 0.06}),
        ("nₛ=0.97, τ=0.06.", {"ns": 0.97, "tau": 0.06}),
        ("tau 0.06", {"tau": 0.06}),
        ("an optical depth of 0.06", {"tau": 0.06}),
        ("A_s = 2.2e-9", {"As": 2.2e-9}),
        ("A_s=2.2×10⁻⁹", {"As": 2.2e-9}),
        ("A_s of 2.2 x 10^-9", {"As": 2.2e-9}),
        (r"A_s = 2.2 \times 10^{-9}", {"As": 2.2e-9}),
        ("10^9 A_s = 2.2", {"As": 2.2e-9}),
        ("ln(10^10 A_s) = 3.04", {"As": 2.0905243235e-9}),
        (r"\ln(10^{10}A_s) = 3.04", {"As": 2.0905243235e-9}),
        ("ln(10¹⁰ Aₛ) = 3.04", {"As": 2.0905243235e-9}),
        ("lmax 3000", {"lmax": 3000}),
        ("l_max = 3000", {"lmax": 3000}),
        ("multipoles up to 3000", {"lmax": 3000}),
        ("up to ℓ = 3000", {"lmax": 3000}),
        ("for 2 ≤ ℓ ≤ 3000", {"lmax": 3000}),
        ("from l = 2 to 3000", {"lmax": 3000}),
        ("Σm_ν = 0.1 eV", {"mnu": 0.1}),
        ("mnu = 100 meV", {"mnu": 0.1}),
        ("a neutrino mass of 0.1", {"mnu": 0.1}),
        ("massless neutrinos", {"mnu": 0}),
        ("Omega_k = -0.01", {"omk": -0.01}),
        ("Ωₖ = −0.01", {"omk": -0.01}),
        ("flat", {}),
        ("", {}),
        ("and show D_l = l(l+1)C_l/2pi in µK²", {}),
        ("as a function of l, and explain the effect of tau", {}),
    ],
)
def test_each_parameter_is_read(text: str, values: dict[str, float]) -> None:
    assert read(text) == pytest.approx(values)


@pytest.mark.parametrize(
    ("text", "spectra"),
    [
        ("TT only", "TT"),
        ("of the temperature", "TT"),
        ("TT, TE and EE", None),
        ("EE and TE", "TE,EE"),
        ("spectra = EE, H0 = 67.36", "EE"),
        ("spectra: TT,EE", "TT,EE"),
        ("temperature–polarisation cross-correlation", "TE"),
        ("E-mode and B-mode polarization", "EE,BB"),
        ("Tee and bee", None),
        ("", None),
    ],
)
def test_the_spectra_are_chosen(text: str, spectra: str | None) -> None:
    assert read(text) == ({} if spectra is None else {"spectra": spectra})


def test_the_configuration_chooses_spectra_too() -> None:
    assert read("", spectra="EE, TT") == {"spectra": "TT,EE"}
    assert read("EE and TT", spectra="TT,EE") == {"spectra": "TT,EE"}
    assert isinstance(refusal("EE", spectra="TT"), ParameterConflict)


@pytest.mark.parametrize("value", ["XX", "", "TT,XX", 3, ["TT"]])
def test_what_is_no_spectrum_is_refused_by_name(value: object) -> None:
    error = refusal("", spectra=value)
    assert isinstance(error, ParameterUnknown)
    assert "any of TT, TE, EE, BB" in error.suggestion


@pytest.mark.parametrize("text", ["spectra = XX", "without EE", "no polarization", "not TT"])
def test_a_choice_that_cannot_be_made_is_refused(text: str) -> None:
    assert isinstance(refusal(text), ParameterUnknown)


def test_lmax_is_a_whole_number() -> None:
    assert isinstance(read("lmax = 3e3")["lmax"], int)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("foo = 3", "foo = 3"),
        ("w0=-0.9", "w0=-0.9"),
        ("w₀ = −0.9", "w0 = -0.9"),
        ("w0: -0.9", "w0: -0.9"),
        ("H0 = banana", "H0 = banana"),
        ("H0 is banana", "H0 is banana"),
        ("H0: banana", "H0: banana"),
        ("H0 of seventy", "H0 of seventy"),
        ("H0 =", "H0 ="),
        ("H0 = nan", "H0 = nan"),
        ("sigma8 of 0.8", "sigma8 of 0.8"),
        ("σ₈ 0.8", "sigma8 0.8"),
        ("Omega_m = 0.3", "Omega_m = 0.3"),
        ("omega_b = 0.05", "omega_b = 0.05"),
        ("my_tau = 0.05", "my_tau = 0.05"),
        ("tau_dust=0.1", "tau_dust=0.1"),
        ("lensing=False", "lensing=False"),
        ("a tensor-to-scalar ratio of 0.1", "ratio of 0.1"),
        ("l = 2500", "l = 2500"),
        ("making 3 plots", "making 3"),
        ("H0 = 70 m/s", "H0 = 70 m/s"),
        ("H0 = 70 eV", "H0 = 70 eV"),
        ("H0 = 70 furlongs", "H0 = 70 furlongs"),
        ("H0 = 70%", "H0 = 70%"),
        ("H0 = 70banana", "H0 = 70banana"),
        ("h = 0.7 km/s/Mpc", "h = 0.7 km/s/Mpc"),
        ("mnu = 0.1 km", "mnu = 0.1 km"),
        ("ombh2 = 0.0224 g", "ombh2 = 0.0224 g"),
        ("H0 = 67,4", "H0 = 67,4"),
        ("H0 = 67.4 ± 0.5", "H0 = 67.4 ± 0.5"),
        ("H0 = 7*10", "H0 = 7*10"),
        ("H0 = 60, 70, 75", "60, 70"),
        ("H0 = 70 or 75", "70 or 75"),
        ("H0 = 60-80", "60-80"),
        ("H0 from 60 to 80", "H0 from 60"),
        ("H0 > 60", "H0 > 60"),
        ("non-flat", "non-flat"),
        ("unlensed", "unlensed"),
    ],
)
def test_what_is_not_understood_is_named(text: str, named: str) -> None:
    error = refusal(text)
    assert isinstance(error, ParameterUnknown)
    assert f"“{named}" in error.message or f"{named}”" in error.message
    assert "H0 (40 to 100 km/s/Mpc)" in error.message  # what it does read
    assert error.suggestion


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("H0 = 700", ["H0 = 700 km/s/Mpc", "40 to 100 km/s/Mpc"]),
        ("h = 70", ["H0 = 7000 km/s/Mpc", "“h = 70”", "40 to 100 km/s/Mpc"]),
        ("H0 = -70", ["H0 = -70", "40 to 100"]),
        ("mnu = 9 eV", ["mnu = 9 eV", "0 to 5 eV"]),
        ("As = 2", ["As = 2", "1e-10 to 1e-08"]),
        ("ln(10^10 A_s) = 3000", ["As = inf", "1e-10 to 1e-08"]),
        ("lmax = 2500.5", ["lmax = 2500.5", "50 to 8000, a whole number"]),
        ("lmax = 1e999", ["lmax = inf", "50 to 8000"]),
        ("tau = 0.9", ["tau = 0.9", "0.01 to 0.3"]),
    ],
)
def test_out_of_range_names_parameter_value_range_and_unit(text: str, parts: list[str]) -> None:
    error = refusal(text)
    assert isinstance(error, ParameterOutOfRange)
    assert not [part for part in parts if part not in error.message]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H0 = 60 and H0 = 70", "H0"),
        ("h = 0.7 with H0 = 72", "H0"),
        ("flat with Omega_k = 0.01", "omk"),
        ("A_s = 2e-9, ln(10^10 A_s) = 3.1", "As"),
    ],
)
def test_two_values_for_one_parameter_are_refused(text: str, name: str) -> None:
    error = refusal(text)
    assert isinstance(error, ParameterConflict)
    assert error.message.startswith(f"{name} is given two values")


def test_the_configuration_gives_parameters_too() -> None:
    assert read("with tau = 0.06", H0=70, l_max=3000.0) == {"tau": 0.06, "H0": 70, "lmax": 3000}


def test_text_and_configuration_must_agree() -> None:
    assert read("for H0 = 70", H0=70) == {"H0": 70}
    assert isinstance(refusal("for H0 = 70", H0=71), ParameterConflict)


@pytest.mark.parametrize("value", ["70", None, True, [70], float("nan"), float("inf"), 700])
def test_a_value_of_the_configuration_is_a_number_in_range(value: object) -> None:
    assert "H0" in refusal("", H0=value).message


def test_an_unknown_name_in_the_configuration_is_refused() -> None:
    assert "w0 = -0.9" in refusal("", w0=-0.9).message


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["H0 = 70 " * 2000, "l " * 9000, " " * 19_000, "h" * 19_000])
def test_long_texts_are_read_in_time(text: str) -> None:
    assert read(text) in ({}, {"H0": 70})
