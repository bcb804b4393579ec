// Reads nested arrays of numbers and strings, in a form like that of CBOR, over and over.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;
static u8 data[4096];
static int size;

static void head(int kind, u32 n) {
	if (n < 24) {
		data[size++] = kind << 5 | n;
	} else if (n < 256) {
		data[size++] = kind << 5 | 24;
		data[size++] = n;
	} else {
		data[size++] = kind << 5 | 25;
		data[size++] = n >> 8;
		data[size++] = n;
	}
}

static const u8 *item(const u8 *p, const u8 *end, u64 *sum, int depth) {
	if (p == end || depth > 32) return 0;
	int kind = *p >> 5, info = *p & 31;
	u64 n = info;
	p++;
	if (info >= 24) {
		int bytes = 1 << (info - 24);
		if (info > 27 || end - p < bytes) return 0;
		for (n = 0; bytes--;) n = n << 8 | *p++;
	}
	switch (kind) {
	case 0: *sum += n; return p;
	case 1: *sum -= n; return p;
	case 2:
	case 3:
		if (n > (u64)(end - p)) return 0;
		for (u64 i = 0; i < n; i++) *sum = *sum * 31 + *p++;
		return p;
	case 4:
		for (; n && p; n--) p = item(p, end, sum, depth + 1);
		return p;
	default: return 0;
	}
}

u32 run(u32 n) {
	size = 0;
	head(4, 100);
	for (int i = 0; i < 100; i++) {
		head(4, 4);
		head(0, i * 300 & 0x7fff);
		head(1, i);
		head(2, 20);
		for (int j = 0; j < 10; j++) data[size++] = j, data[size++] = i;
		head(4, 1);
		head(0, i * i & 0x7fff);
	}
	u64 sum = 0;
	while (n--)
		if (!item(data, data + size, &sum, 0)) return 0;
	return sum ^ sum >> 32;
}
