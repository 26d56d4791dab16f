"""Why a candidate was kept, flagged or dropped: a record of each decision, and the sentence that shows it.

A record contains the rule, the values it compared and the ids of other candidates involved, so that programs need not
parse text; :data:`SENTENCES` has the text.  A new rule needs a name and a sentence here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# By rule; fields in braces are the record's values, {id} is the candidate it concerns. Probabilities have two digits,
# S/N ratios and distances one.
SENTENCES = {
    # what was found
    "found": "found: S/N {snr_stacked:.1f} band-averaged, {snr_line:.1f} in the best matched line filter; "
    "detection score {score:.2f}",
    "found_blob": "found: a blob of {pixels} px, probability up to {prob:.2f}",
    "found_extended": "found: a patch of {beams:.0f} beams of extended emission, S/N up to {snr:.1f}, "
    "with {places} peaks that Source Finder detects",
    "found_smoothed": "found in the cube smoothed to a beam of {fwhm:.1f} px",
    "part_of_smoothed": "dropped: part of candidate {id}, which is a single object in the smoothed cube",
    "found_by_its_line": "found: the line at channel {channel} of candidate {id} peaks {distance:.1f} px away from it",
    "found_in_a_blend": "found: blended with candidate {id}, separated by its line",
    # lines
    "line": "line at channel {centre:.1f}, FWHM {fwhm:.1f} channels, line probability {height:.2f}",
    "line_denoised": "line at channel {centre:.1f}, FWHM {fwhm:.1f} channels, denoised height {height:.2f}",
    "no_line": "no line (maximum line probability {height:.2f}, best line S/N {snr:.1f})",
    "no_line_required": "dropped: no line, and the settings require one",
    "no_emission_peak": "no emission peak above {threshold:.2f} (highest {height:.2f})",
    "no_emission_peak_required": "dropped: no emission peak above {threshold:.2f} (highest {height:.2f})",
    "peak_discarded": "peak at channel {channel} discarded: {why}",
    "peak_of_another": "peak at channel {channel} belongs to candidate {id}",
    "line_of_another": "the line at channel {channel} belongs to candidate {id}",
    "line_elsewhere": "the line at channel {channel} belongs to another source, {distance:.1f} px away",
    "peak_too_faint": "peak at channel {channel} dropped: pixel S/N {snr:.1f} is less than {min_snr:g}",
    "peak_elsewhere": "peak at channel {channel} belongs to another source: {distance:.1f} px away, pixel S/N "
    "{snr:.1f}",
    "peak_second_line": "peak at channel {channel} is a second line: global S/N {snr_focused:.1f} in its "
    "line-integrated image, {snr_stacked:.1f} over all channels",
    "peak_no_line": "peak at channel {channel} dropped: global S/N {snr_focused:.1f} in its line-integrated image, "
    "{snr_stacked:.1f} over all channels",
    "peaks_overlap": "flagged: peak at channel {channel} overlaps the range of the primary line and cannot be "
    "separated from it",
    "line_in_own_spectrum": "line at channel {centre:.1f}, FWHM {fwhm:.1f} channels, at {least:g} sigma or more "
    "in the measured spectrum",
    "further_lines": "its flux, velocity and widths are those of one line; further lines of the source, at channels "
    "{channels}, are not in them",
    "both_ends": "its emission reaches both ends of the band at the same brightness ({first:.3g} and {last:.3g}), and "
    "its median is {middle:.3g}: it may be continuum with a wide line in absorption, which is not measured as such",
    # the classifier and its threshold
    "probable": "kept: source probability {prob:.2f} >= {threshold:g}",
    "improbable": "dropped: source probability {prob:.2f} < {threshold:g}",
    "too_bright_for_noise": "flagged: source probability {prob:.2f} < {threshold:g}, but it is too bright to be noise "
    "or a sidelobe of another source in the field",
    "extended_source": "kept: the patch of {beams:.1f} beams around it is emission with a probability of {prob:.2f} "
    ">= {threshold:g}",
    "improbable_patch": "the patch of {beams:.1f} beams around it is emission with a probability of {prob:.2f} "
    "< {threshold:g}",
    # of earlier versions
    "extended": "flagged: source probability {prob:.2f} < {threshold:g}, but it is extended emission, of which "
    "the classifier has seen few examples",
    "stripe": "dropped: a long, thin stripe, as a bad baseline causes; source probability {prob:.2f}",
    "residual_sidelobes": "dropped: not bright enough for a dynamic-range-limited field, whose rms is {spread:.1f} "
    "times the thermal noise; source probability {prob:.2f}",
    # artefacts
    "baseline_ripple": "dropped: baseline ripple, the spectrum oscillates symmetrically about zero, down to an S/N of "
    "-{dip:.1f}; source probability {prob:.2f}",
    "residuals": "dropped: only {snr:.1f} times the rms of the image of its line (or of the stacked image), and that "
    "rms is {rms:.2f} times the thermal noise: it may be a sidelobe; source probability {prob:.2f}",
    "flank": "dropped: on the flank of candidate {id}, whose S/N is {snr:.0f}; source probability {prob:.2f}",
    "sidelobe_of_another_window": "dropped: it may be a sidelobe of a source of S/N {snr:.0f} nearby",
    "negative_flux": "dropped: negative flux, {flux:.3g}",
    "no_flux": "dropped: no line in its spectrum, and its continuum is only {snr:.1f} times its error",
    "no_line_flux": "dropped: no line can be fitted to its spectrum, and its flux is only {snr:.1f} times its error",
    # blends
    "two_fit_better": "flagged: two sources, this one and candidate {id}, fit the data better than one, by "
    "{sigma:.1f} sigma",
    "as_its_part": "kept: it contains candidate {id}, a source with a probability of {prob:.2f}",
    "part_of": "dropped: part of candidate {id}, whose mask contains it",
    "one_object": "one object with candidate {id}: both lie in one mask, and separate sources do not explain "
    "the emission",
    "piece_of": "dropped: a piece of candidate {id}: its line is detected all the way between them",
    "joined_with": "one object with candidate {id}: its line is detected all the way between them",
    "only_others": "dropped: all of its peaks belong to other candidates",
    # the two S/N ratios of the paper
    "seen": "kept: pixel S/N {snr_focused:.1f} in the line-integrated image, {snr_stacked:.1f} in the "
    "band-averaged one",
    "not_seen": "dropped: pixel S/N {snr_focused:.1f} in the line-integrated image, {snr_stacked:.1f} in the "
    "band-averaged one, both less than {min_snr:g}",
    # limits of the computer, and changes by the user
    "too_large_to_measure": "not measured: this needs {needed:.1f} GB of memory, but the limit is {allowed:g} GB "
    "(--memory)",
    "own_box": "your box: {width} x {height} pixels from x {x}, y {y}",
    "own_range": "your emission range: channels {first} to {last}",
    "own_mask": "your mask: {voxels} voxels in channels {first} to {last}",
    "own_line": "your line: centre at channel {centre:.1f}, FWHM {fwhm:.1f} channels",
    "own_fit": "your fit: {count} Gaussian(s), the largest at channel {centre:.2f}, FWHM {fwhm:.2f} channels, reduced "
    "chi-squared {chi2:.2f}",
    "imported": "imported from {file}: {name} at x {x:.1f}, y {y:.1f}",
    "merged": "yours: candidates {numbers} merged",
    "split_off": "yours: split off from candidate {id}",
    "kept_from_earlier": "kept from an earlier detection: you reviewed it, and it was not found again",
    "own_candidate": "kept: your own candidate",
    # results of version 0.1, which kept sentences only
    "remark": "{text}",
}


@dataclass(frozen=True)
class Decision:
    """One decision about a candidate.

    Attributes
    ----------
    rule
        A key of :data:`SENTENCES`.
    values
        The values that were compared, by name; S/N ratios, probabilities and thresholds have no unit, distances are in
        pixels, channels are 0-based.
    ids
        The other candidates involved.
    """

    rule: str
    values: Mapping[str, Any] = field(default_factory=dict)
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in SENTENCES:
            raise ValueError(f"there is no rule {self.rule!r}; a new rule needs a sentence in catalogue/decision.py")

    def __str__(self) -> str:
        return SENTENCES[self.rule].format(**self.values, **({"id": self.ids[0]} if self.ids else {}))

    def renumbered(self, called: Callable[[int], int]) -> Decision:
        """The same decision with the ids of candidates replaced by ``called`` (old id)."""
        return replace(self, ids=tuple(called(number) for number in self.ids))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, from which :meth:`from_dict` makes it again."""
        return {"rule": self.rule, "values": dict(self.values), "ids": list(self.ids)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Decision:
        """A decision from its plain values.

        Raises
        ------
        ValueError
            If there is no such rule.
        """
        return cls(plain["rule"], dict(plain["values"]), tuple(plain["ids"]))


def remark(text: str) -> Decision:
    """A sentence without a rule, as results of version 0.1 have them."""
    return Decision("remark", {"text": text})
