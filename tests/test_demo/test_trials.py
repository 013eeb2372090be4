"""The table of a comparison, against its figures worked out by hand."""

from denseclip_mm.demo.trials import comparison


def test_rows_and_what_each_network_adds():
    rows = {('plain', 20): [dict(learned=1200, box=10.0), dict(learned=1200, box=14.0)],
            ('guided', 20): [dict(learned=3400, box=13.0, map=9.0),
                             dict(learned=3400, box=15.0, map=11.0)]}
    table = comparison(rows, titles={'plain': 'no language', 'guided': 'DenseCLIP'},
                       columns={'box': 'box', 'map': 'box'}, counted='scenes', unit='AP')
    assert table == """\
| network | scenes | box | map | learned parameters |
| --- | --- | --- | --- | --- |
| no language | 20 | 12.0 ± 2.8 | - | 1,200 |
| DenseCLIP | 20 | 14.0 ± 1.4 | 10.0 ± 1.4 | 3,400 |

- DenseCLIP, 20 scenes: box over no language +2.0 ± 1.4 AP (+3.0, +1.0).
- DenseCLIP, 20 scenes: map over no language -2.0 ± 1.4 AP (-1.0, -3.0).
"""
