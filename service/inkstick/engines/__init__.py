"""Page pixels become text: one small protocol, and the engines behind it."""
