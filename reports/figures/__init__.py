"""One function for each figure: from results to SVG.

Why our own SVG and no plotting library: with matplotlib 3.11 the figure of differences (24 settings) takes 51 kB of SVG
instead of 17, and ten figures take seconds to import and draw instead of tenths. Its colours stand in every mark's
`style`, so that a page in light and dark has to rewrite the SVG; tooltips and alt texts have to be added to it as well.
The SVG here is the one description: `reports.figure_files` makes the PDF of it, with typst.
"""
