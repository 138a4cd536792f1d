"""What people look at: the HTML reports and the figures. The only importer of a plotting library."""
