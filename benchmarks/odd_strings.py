"""Strings that tokenizers get wrong: ours must come back whole, and be the same everywhere."""

ODD_STRINGS = [
    "👩‍👩‍👧‍👦 family",
    "👍🏽 ok",
    "\ttab\t\ttabs",
    "line\r\nline\r\n\r\n",
    "e\u0301 u\u0308 a\u0300\u0301\u0302",
    "中文字符\uff0c没有空格。",
    "nul\x00nul",
    "x" * 10_000,
    "▁Ġ## Ã© Â",
    "\U0010ffff\U0010fffe",
    "",
    " ",
    "   leading and  double   spaces   ",
    "\n\n\n \n\t\n",
    "<|user|><bos></s>[UNK]<unk><eos><pad>",
    "\u00a0\u2003\u3000\u200b\ufeff",
    "\x1c\x1d\x1e\x1f\x7f\x85\u2028\u2029",
    "مرحبا بالعالم שלום",
    "1234567890 ½ ² ① 1,000.50",
    "it's IT'S it\u2019s 'Ve \u017f's",
]
