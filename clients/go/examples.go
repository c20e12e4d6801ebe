package taxond

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	pb "example.com/taxond/taxondv1"
)

// ReadTSV reads labelled texts from a file with the columns text and label, below a header.
func ReadTSV(path string) ([]*pb.LabelledText, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var examples []*pb.LabelledText
	lines := bufio.NewScanner(file)
	for row := 1; lines.Scan(); row++ {
		text, label, found := strings.Cut(lines.Text(), "\t")
		if !found {
			return nil, fmt.Errorf("%s: row %d has no tab", path, row)
		}
		if row > 1 {
			examples = append(examples, &pb.LabelledText{Text: text, Label: label})
		}
	}
	return examples, lines.Err()
}
