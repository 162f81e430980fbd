"""Made-up card payments of any number of rows, dirty as real ones, whose best possible AUC is known.

world     countries, merchant categories, merchants, cards: fixed by the seed
draw      one block of payments, drawn from the world
risk      the true fraud probability of a payment
defects   what upstream systems do to the rows: mistyped, repeated, missing, impossible
table     a block as an Arrow table
truth     the best AUC any model can reach, in flat memory; _truth.json
generate  days into files
"""

from rayforest.payments.defects import Defect
from rayforest.payments.generate import generate_payments
from rayforest.payments.truth import DayTruth, Generated, read_truth

__all__ = ["DayTruth", "Defect", "Generated", "generate_payments", "read_truth"]
