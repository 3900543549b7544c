"""Synthetic walkers: articulated 3-D bodies that walk past eleven cameras, written in CASIA-B's raw layout.

A person is a set of traits (traits.py: bones, girths, posture, joint curves); a walk of that person is the same
traits, a little disturbed, with a bag or a coat where the condition says so. A pose is a few dozen ellipsoids
(body.py); a body part is the convex hull of two or three of them, and its picture the hull of their projections
(camera.py). Everything is drawn from (seed, subject, condition, view), so any sequence can be made alone, in any
order and process (dataset.py).

    python -m data_prep.synthetic --out=walkers --subjects=20 --sheet=walkers.png --strip=walk.gif
"""

from data_prep.synthetic.dataset import Summary, SyntheticConfig, fingerprint, render_sequence, write_walkers

__all__ = ["Summary", "SyntheticConfig", "fingerprint", "render_sequence", "write_walkers"]
