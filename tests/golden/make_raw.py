"""The raw table of the golden versions: two classes, a category, a time, missing values, dirty rows."""

import random
import sys
from pathlib import Path

rng = random.Random(20261125)
lines = ["id,age,city,signed_at,churned"]
for i in range(400):
    age = "" if i % 50 == 7 else str(rng.randint(18, 80))
    city = rng.choice(["Oslo", "Lima", "Pune", ""])
    day = f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}"
    churned = "yes" if rng.random() < (0.7 if city == "Lima" else 0.2) else "no"
    lines.append(f"{i},{age},{city},{day},{churned}")
lines[20] += ",extra"
lines.append("5,33,Oslo,2026-01-01,no")
Path(sys.argv[1]).write_text("\n".join(lines) + "\n")
