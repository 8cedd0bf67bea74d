// The least guest: greets whom it is told to, and leaves a note in /out.
#include <stdio.h>

int main(int argc, char **argv) {
	const char *who = argc > 1 ? argv[1] : "world";
	printf("hello, %s\n", who);
	FILE *note = fopen("/out/note.txt", "w");
	if (!note) {
		perror("/out/note.txt");
		return 1;
	}
	fprintf(note, "%s was greeted\n", who);
	return fclose(note) ? 1 : 0;
}
