"""Side-by-side measurements: ``python -m bench`` on a machine that has ``wrk`` and ``nginx``.

What is measured is in ``sections``; what it is measured against in ``yardsticks`` and ``peers``;
what it has to show in ``targets``. CPU a request is the figure to trust: requests a second also
tell what else the machine was doing.
"""
