import subprocess
import sys


def test_the_nodes_side_imports_neither_torch_nor_vllm() -> None:
    program = (
        "import sys, p2pcap.engine.base, p2pcap.engine.vllm_engine;"
        "print(sorted({'torch', 'vllm', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
