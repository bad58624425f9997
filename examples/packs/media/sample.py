#!/usr/bin/env python3
"""Makes a small picture and a short sound to transcode: `sample.py FOLDER` writes source.ppm and source.wav."""
import math, os, struct, sys, wave

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
width, height = 64, 48
with open(os.path.join(folder, "source.ppm"), "wb") as picture:
    picture.write(b"P6\n%d %d\n255\n" % (width, height))
    for y in range(height):
        picture.write(bytes(part for x in range(width) for part in (x * 4, y * 5, (x ^ y) * 4 % 256)))
with wave.open(os.path.join(folder, "source.wav"), "wb") as sound:
    sound.setnchannels(2)
    sound.setsampwidth(2)
    sound.setframerate(16000)
    for n in range(8000):
        left = int(12000 * math.sin(n / 16000 * 440 * 2 * math.pi))
        right = int(8000 * math.sin(n / 16000 * 660 * 2 * math.pi))
        sound.writeframes(struct.pack("<hh", left, right))
