"""What the errors mean that beginners meet most: a line of advice for each."""

import re

ADVICE = {
    r"only one element tensors can be converted|can only convert an array of size 1": (
        "`math`, `float()` and `int()` take one number; for a tensor there are torch.log, torch.sqrt and their like"
    ),
    r"Boolean value of Tensor with more than one value is ambiguous$": (
        "`if`, `and`, `or` want one yes or no, and a tensor has many: `torch.where`, & and | go through them"
    ),
    r"list index out of range": "is the list still empty, or one shorter than you think?",
    r"'NoneType' object": "something is None: an argument not given, or what a function without `return` gives",
    r"[Ii]nput dtype .*(Long|Int|Byte|floating)|not implemented for '(Long|Int|Byte)'|type Float can't be cast": (
        "these are whole numbers: `.float()` makes floating-point ones of them"
    ),
    r"a leaf Variable that requires grad": "weights are changed in place within `torch.no_grad()` only",
}


def advice(error: BaseException) -> str:
    """What may help against this error, as the end of a sentence; "" where nothing is known."""
    text = str(error)
    return next((f": {said}" for sign, said in ADVICE.items() if re.search(sign, text)), "")
