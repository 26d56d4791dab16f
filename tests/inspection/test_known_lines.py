"""The list of lines obeys physics, and agrees with what the literature prints."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import constants
from astropy.table import Table

from napari_almadet.inspection.known_lines import Line, known_lines, lines_in_band, redshift_of

LADDERS = ("CO", "13CO", "C18O", "HCN", "H13CN", "HNC", "HCO+", "H13CO+", "DCO+", "N2H+", "CS", "13CS", "SiO")


def frequencies(species: str) -> dict[str, float]:
    return {line.transition: line.rest_frequency for line in known_lines() if line.species == species}


@pytest.mark.parametrize("species", LADDERS)
def test_linear_molecules_are_rotors(species):
    """nu(J) = 2 B J - 4 D J^3: two constants fit every ladder, to a MHz."""
    ladder = frequencies(species)
    j = np.array([float(transition.split("-")[0]) for transition in ladder])
    assert (np.diff(j) == 1).all()
    nu = np.array(list(ladder.values()))
    terms = np.stack([2 * j, -4 * j**3], axis=1)
    constants_of_rotation = np.linalg.lstsq(terms, nu, rcond=None)[0]
    assert abs(nu - terms @ constants_of_rotation).max() < 1.5e-3  # GHz
    assert (constants_of_rotation > 0).all()


def test_recombination_lines_follow_rydberg():
    rydberg = (constants.Ryd * constants.c * constants.m_p / (constants.m_p + constants.m_e)).to_value("GHz")
    alphas = [line for line in known_lines() if line.species.endswith("alpha")]
    assert len(alphas) > 20
    for line in alphas:
        n = int(line.species.removeprefix("H").removesuffix("alpha"))
        assert line.rest_frequency == pytest.approx(rydberg * (1 / n**2 - 1 / (n + 1) ** 2), rel=1e-7)


def test_formaldehyde_levels_close():
    """The doublets of J = 1 and 2 differ as the two lines between them do; that of J = 2 is at 14.488479 GHz."""
    h2co = frequencies("H2CO")
    around = h2co["1(1,0)-1(1,1)"] + h2co["2(1,1)-1(1,0)"] - h2co["2(1,2)-1(1,1)"]
    assert around == pytest.approx(14.488479, abs=2e-5)


@pytest.mark.parametrize(
    ("species", "transition", "ghz"),
    [
        ("CO", "2-1", 230.538),
        ("HI", "21 cm", 1.420405751768),
        ("[CII]", "158 um", 1900.5369),
        ("[CI]", "3P1-3P0", 492.160651),
        ("H2O", "6(1,6)-5(2,3)", 22.23508),
        ("NH3", "1,1", 23.6944955),
        ("OH", "1667", 1.667359),
        ("SiO", "5-4", 217.10498),
    ],
)
def test_numbers_of_the_literature(species, transition, ghz):
    assert frequencies(species)[transition] == pytest.approx(ghz, rel=1e-6)


@pytest.mark.parametrize(
    ("species", "transition", "micrometres"),
    [
        ("[CII]", "158 um", 157.741),
        ("[NII]", "205 um", 205.178),
        ("[NII]", "122 um", 121.898),
        ("[OI]", "63 um", 63.184),
        ("[OI]", "145 um", 145.525),
        ("[OIII]", "88 um", 88.356),
        ("[OIII]", "52 um", 51.815),
    ],
)
def test_fine_structure_lines_by_their_wavelengths(species, transition, micrometres):
    ghz = constants.c.to_value("um GHz") / micrometres
    assert frequencies(species)[transition] == pytest.approx(ghz, rel=2e-5)


def test_every_line_tells_its_source_once():
    lines = known_lines()
    assert {line.source for line in lines} == {"CDMS", "JPL", "Rydberg", "Hellwig 1970"}
    assert len({line.name for line in lines}) == len(lines)
    assert [line.rest_frequency for line in lines] == sorted(line.rest_frequency for line in lines)


def test_file_is_read_by_any_program():
    from importlib.resources import files

    table = Table.read(files("napari_almadet.inspection") / "known_lines.ecsv", format="ascii.ecsv")
    assert table.colnames == ["species", "transition", "rest_frequency", "source"]
    assert any("Splatalogue" in comment for comment in table.meta["comments"])


def test_lines_in_a_band():
    assert [line.name for line, _ in lines_in_band(230.3, 230.7, 0.0)] == ["CO 2-1"]
    # BR 1202-0725 at z = 4.69: CO 5-4 at 101.3 GHz (Omont et al. 1996)
    at_redshift = {line.name: f for line, f in lines_in_band(100, 102, 4.6932)}
    assert at_redshift["CO 5-4"] == pytest.approx(101.22, abs=0.02)


def test_redshift_and_back():
    line = Line("CO", "5-4", 576.2679305, "CDMS")
    assert line.rest_frequency / (1 + redshift_of(line, 101.22)) == pytest.approx(101.22)
