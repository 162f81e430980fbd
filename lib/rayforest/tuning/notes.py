"""What tune says before it begins, and check as well, from the profile of the prepared rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from rayforest.features.profile import Profile
from rayforest.metrics.defined import weaknesses
from rayforest.metrics.problem import Problem, remarks
from rayforest.tuning.constant import constant_notes


def notes_before(problem: Problem, profile: Profile, features: Sequence[str]) -> list[str]:
    """On labels that training lacks, on metrics that held-out rows do not define, and on features that do not vary."""
    return [*remarks(problem, profile), *weaknesses(problem, profile), *constant_notes(profile, features)]
