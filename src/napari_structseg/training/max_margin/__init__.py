"""Max-margin learning of a network and a CRF: Larsson, Alvén and Kahl, SCIA 2017."""
