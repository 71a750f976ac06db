"""The panels of the dock: each shows a few fields of the state and lets the user change them.

A panel holds no state of its own and knows neither the viewer's layers nor the engine.
"""
