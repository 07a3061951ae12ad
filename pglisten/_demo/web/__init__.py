"""The demo as a web page: gunicorn with gevent workers, as a user would build it.

Two sides, which import nothing of one another but `settings` and the bytes of `control`:

* the process that was called ``pglisten demo`` (`show`, `stage`, `server`) owns the database and gunicorn;
* gunicorn's own processes (`configuration`, `application`, `answers`, `pages`) serve the page.
"""
