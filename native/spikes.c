// spikes
#include "scn.h"
EXPORT void KERNEL(nothing_spikes)(void) {}
