"""Functions of the application that consume in greenlets of their own, and go on after they raise."""
