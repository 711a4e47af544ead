// Package chart draws line charts as SVG with gonum's plot: a few series over a logarithmic or linear axis, with
// labelled axes, a light grid and a legend. The file needs no script and no style sheet.
//
// Invariants: the same chart gives the same bytes; points that a scale cannot show (not a number, or not above zero
// on a logarithmic axis) are left out.
//
// Concurrency: SVG is a pure function.
//
// Testing: the drawing is parsed as XML.
package chart
