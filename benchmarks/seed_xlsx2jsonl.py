"""The seed tutorial's data/xlsx2jsonl.py as it stands there, but for its two paths: for comparison.

python benchmarks/seed_xlsx2jsonl.py WORKBOOK.xlsx OUT.jsonl
"""

import json
import sys

import pandas as pd

file = sys.argv[1]
df = pd.read_excel(file)
print(df.head())

output_data = []
for idx, row in df.iterrows():
    system_value = "You are a professional, highly experienced doctor professor. You always provide accurate, comprehensive, and detailed answers based on the patients' questions."
    input_row = "关于`{}`的`{}`问题,{}?".format(row["info_1"], row["info_2"], row["Q"])
    conversation = {"system": system_value, "input": input_row, "output": row["A"]}
    # print(conversation)
    output_data.append({"conversation": [conversation]})
print(len(output_data))

output_file = sys.argv[2]
with open(output_file, "w", encoding="utf-8") as json_file:
    json.dump(output_data, json_file, indent=4, ensure_ascii=False)
