// Puts keys into a table with open addressing and finds them, over and over.
typedef unsigned int u32;
typedef unsigned long long u64;
static struct {
	u64 key, value;
} table[4096];

static u32 slot(u64 key) {
	u32 i = key * 0x9e3779b97f4a7c15 >> 52;
	while (table[i].key && table[i].key != key) i = (i + 1) & 4095;
	return i;
}

u32 run(u32 n) {
	u64 sum = 0;
	while (n--) {
		for (int i = 0; i < 4096; i++) table[i].key = 0;
		for (u64 k = 1; k < 2500; k++) {
			u32 i = slot(k * 2654435761);
			table[i].key = k * 2654435761;
			table[i].value = k ^ sum;
		}
		for (u64 k = 1; k < 2500; k++) sum += table[slot(k * 2654435761)].value;
	}
	return sum ^ sum >> 32;
}
