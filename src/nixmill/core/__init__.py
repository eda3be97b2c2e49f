"""The decisions of a CI. Pure, synchronous, property-tested; file order is data flow.

change → jobset → evaluation → diff → plan → schedule → build → roots → status → report
"""
