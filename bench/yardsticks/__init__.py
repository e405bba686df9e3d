"""What the service is measured against: WSGI applications that gunicorn loads by name.

``BENCH_BODY`` is a file with the bytes to answer, ``BENCH_ENCODING`` their Content-Encoding,
``BENCH_DATABASE`` the file of the naive service, ``BENCH_WORKER`` whose worker class serves. None
of them imports ``app``: a yardstick carries no weight of ours.
"""
