import numpy as np

from pipeline.contact_sheet import Cell, compute_contact_sheet

PICTURE = np.full((32, 32, 3), 90, np.uint8)


def test_contact_sheet_has_a_place_for_every_picture_and_a_line_for_the_note():
    columns = [Cell("original", [PICTURE, PICTURE]), Cell("a long name of an edit", [PICTURE, None])]
    plain = compute_contact_sheet(columns, ["one", "two"])
    assert plain.shape[1] == 2 * 36 + 4
    assert (plain == 90).all(axis=2).sum() > 2 * 32 * 32
    noted = compute_contact_sheet(columns, ["one", "two"], note="2 of 9 faces")
    assert noted.shape[0] > plain.shape[0]
    assert (noted[: len(plain)] == plain).all()
    assert (noted[len(plain) :] < 128).any()
