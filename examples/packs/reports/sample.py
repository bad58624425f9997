#!/usr/bin/env python3
"""Makes sales files for the report: `sample.py FOLDER COUNT` writes sales-001.csv and so on, 40 rows in each."""
import os, sys

folder, count = sys.argv[1], int(sys.argv[2])
os.makedirs(folder, exist_ok=True)
for number in range(1, count + 1):
    with open(os.path.join(folder, f"sales-{number:03}.csv"), "w") as file:
        file.write("day,region,amount\n")
        for row in range(40):
            region = ("north", "east", "south", "west")[(number + row) % 4]
            file.write(f"2026-01-{row % 28 + 1:02},{region},{number * 100 + row}\n")
