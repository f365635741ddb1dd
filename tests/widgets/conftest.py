"""The browser, and pages in it, for all tests of widgets."""

from tests.widgets.pages import browser as browser
from tests.widgets.pages import open_page as open_page
from tests.widgets.pages import served as served
