"""The doctor finds each fault planted in a sound data set, and nothing in the sound one."""

import pytest
from doctor.faults import FAULTS


def test_a_sound_data_set_has_no_finding(photos, findings):
    assert findings(photos) == {}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_planted_fault_is_found(fault, photos, findings):
    fault.plant(photos)
    found = findings(photos)
    assert fault.what in found, found
    severity, cases = found[fault.what]
    assert (severity, len(cases)) == (fault.severity, fault.cases)
    assert len(found) == 1 + fault.others, found
