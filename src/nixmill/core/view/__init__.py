"""What pages show, as data: one struct a page. The same struct is the page's JSON twin and what its template draws.

Filled by the doors in `nixmill.doors.pages`, drawn by `nixmill.web`. Texts are hostile data from repositories.
"""
