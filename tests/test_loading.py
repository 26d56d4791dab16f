import gc
import subprocess
import sys
import textwrap

from napari_almadet.loading import loading, spare_imports


def test_garbage_collection_pauses_while_libraries_load_and_no_longer():
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen  # the process is that of the tests: what becomes garbage is freed


def test_garbage_collection_stays_off_where_it_was_off():
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_collection_is_on_again_after_a_failed_import():
    try:
        with loading():
            raise ImportError("no such library")
    except ImportError:
        assert gc.isenabled()


def test_in_a_process_of_our_own_what_was_loaded_is_not_searched_for_garbage_again():
    program = """
        import gc
        from napari_almadet.loading import exempt_at_exit, loading
        before = gc.get_freeze_count()
        exempt_at_exit()
        with loading():
            import decimal
        assert gc.get_freeze_count() > before
        assert gc.isenabled()
        class Ring:
            def __init__(self):
                self.me = self
            def __del__(self):
                print("freed")
        Ring()
        gc.collect()
        print("end")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["freed", "end"]


def program_of_our_own(text):
    """What a program prints, in a process that runs this package only."""
    start = "from napari_almadet.loading import exempt_at_exit, spare_imports; exempt_at_exit()\n"
    program = start + textwrap.dedent(text)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_what_a_search_does_not_use_of_torch_is_executed_when_it_is_asked_for():
    program = """
        import sys
        spare_imports()
        import torch
        spared = torch._meta_registrations
        print("register_meta" in vars(spared), "torch._decomp" in sys.modules)
        print(callable(spared.register_meta), "torch._decomp" in sys.modules, type(spared).__name__)
        print(spared.__spec__.loader is spared.__loader__, len(torch.ones(3, device="meta").sort().values))
    """
    assert program_of_our_own(program) == ["False", "False", "True", "True", "module", "True", "3"]


def test_a_name_that_a_spared_module_does_not_have_is_an_attribute_error():
    program = """
        spare_imports()
        import numpy.f2py
        print(hasattr(numpy.f2py, "no_such_name"), callable(numpy.f2py.run_main), numpy.f2py.__name__)
    """
    assert program_of_our_own(program) == ["False", "True", "numpy.f2py"]


def test_nothing_is_spared_in_a_process_of_others():
    before = list(sys.meta_path)
    spare_imports()
    assert sys.meta_path == before


def test_the_command_that_searches_spares_what_it_does_not_use(tmp_path):
    program = f"""
        import sys
        from napari_almadet.cli import app
        try:
            app(["detect", "{(tmp_path / "no.fits").as_posix()}", "-o", "{tmp_path.as_posix()}", "-q"])
        except SystemExit as end:
            print(end.code)
        print("torch" in sys.modules, "torch._decomp" in sys.modules)
    """
    assert program_of_our_own(program) == ["1", "True", "False"]
