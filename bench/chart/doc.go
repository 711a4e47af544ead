// Package chart draws line charts as SVG: a few series over a logarithmic or linear axis, with labelled axes, a light grid and a legend. The file needs
// no script, font or style sheet, and is legible on light and dark pages.
//
// Invariants: the same chart gives the same bytes; points that a scale cannot show (not a number, or not above zero on a logarithmic axis) are left out.
//
// Concurrency: SVG is a pure function.
//
// Testing: ticks and scales as tables; the drawing is parsed as XML.
package chart
